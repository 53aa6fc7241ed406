"""Train the whole model in a given time: `python -m training.toon.train --minutes 600`.

Runs every training one after another, each with its share of the minutes, and exports the checkpoint.
Called again, it goes on where it was. The trainings' own commands do the same with more say.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One training: its module and what it is called with, and its share of all minutes.

    Without a share it takes the time that it takes.
    """

    name: str
    call: tuple[str, ...]
    share: float = 0.0


def list_stages(folder: Path) -> list[Stage]:
    """The trainings in their order, with everything in `folder`."""
    latents = ("--autoencoder", str(folder / "autoencoder" / "model"))
    encoders = ("--encoders", str(folder / "encoders"))
    denoiser = ("--denoiser", str(folder / "denoiser" / "networks"))
    predictions = str(folder / "predictions.safetensors")

    def keep_in(name: str) -> tuple[str, ...]:
        return ("--folder", str(folder / name))

    first_model = str(folder / "autoencoder" / "model")
    return [
        Stage("autoencoder", ("train_autoencoder", *keep_in("autoencoder")), 0.12),
        Stage("text encoder", ("train_encoders", "text", *keep_in("encoders")), 0.03),
        Stage("image encoder", ("train_encoders", "image", *keep_in("encoders")), 0.13),
        Stage("denoiser", ("train_denoiser", *keep_in("denoiser"), *latents, *encoders), 0.54),
        Stage(
            "identity",
            (
                "train_encoders",
                "identity",
                *keep_in("identity"),
                "--model",
                str(folder / "denoiser" / "networks"),
            ),
            0.04,
        ),
        Stage("predictions", ("predict", "--file", predictions, *denoiser, *latents)),
        Stage(
            "decoder",
            (
                "train_autoencoder",
                *keep_in("decoder"),
                "--predictions",
                predictions,
                "--model",
                first_model,
            ),
            0.07,
        ),
        Stage("detector", ("train_detector", *keep_in("detector")), 0.07),
        Stage(
            "export",
            (
                "export",
                *keep_in("checkpoint"),
                *denoiser,
                "--image-encoder",
                str(folder / "identity"),
                "--autoencoder",
                str(folder / "decoder" / "model"),
                "--detector",
                str(folder / "detector" / "model"),
            ),
        ),
    ]


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/toon"))
    parser.add_argument("--minutes", type=float, required=True, help="for all trainings together")
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that draw"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for stage in list_stages(options.folder):
        done = options.folder / f"{stage.name.replace(' ', '_')}.done"
        if done.exists():
            continue
        module, *arguments = stage.call
        if stage.share:
            arguments += [
                "--minutes",
                f"{stage.share * options.minutes:.2f}",
                "--workers",
                str(options.workers),
            ]
        print(f"{stage.name}: {module} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", f"{__package__}.{module}", *arguments], check=True)
        done.touch()


if __name__ == "__main__":
    main()
