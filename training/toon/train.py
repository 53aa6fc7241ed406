"""Train the whole model in a given time: `python -m training.toon.train --minutes 600`.

Runs every training one after another, each with its share of the minutes, and exports the checkpoint.
Called again, it goes on where it was. The trainings' own commands do the same with more say.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

_DRAWN_A_SECOND = 60
"""More samples than a worker draws in a second."""


@dataclass(frozen=True)
class Stage:
    """One training: its module and what it is called with, and its share of all minutes.

    Without a share it takes the time that it takes. One that `begins_anew` starts from what a training
    before it made, and from the beginning where that has gone on; the others go on from where they were.
    """

    name: str
    call: tuple[str, ...]
    share: float = 0.0
    begins_anew: bool = False


def list_stages(folder: Path) -> list[Stage]:
    """The trainings in their order, with everything in `folder`."""
    latents = ("--autoencoder", str(folder / "autoencoder" / "model"))
    encoders = ("--encoders", str(folder / "encoders"))
    denoiser = ("--denoiser", str(folder / "denoiser" / "networks"))
    predictions = str(folder / "predictions.safetensors")

    def keep_in(name: str) -> tuple[str, ...]:
        return ("--folder", str(folder / name))

    return [
        Stage("autoencoder", ("train_autoencoder", *keep_in("autoencoder")), 0.12),
        Stage("text encoder", ("train_encoders", "text", *keep_in("encoders")), 0.03),
        Stage("image encoder", ("train_encoders", "image", *keep_in("encoders")), 0.13),
        Stage("denoiser", ("train_denoiser", *keep_in("denoiser"), *latents, *encoders), 0.54),
        Stage(
            "identity",
            ("train_encoders", "identity", *keep_in("identity"), "--model", denoiser[1]),
            0.04,
            begins_anew=True,
        ),
        Stage("predictions", ("predict", "--file", predictions, *denoiser, *latents)),
        Stage(
            "decoder",
            (
                "train_autoencoder",
                *keep_in("decoder"),
                *("--predictions", predictions, "--model", latents[1], "--learning-rate", "0.001"),
            ),
            0.07,
            begins_anew=True,
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
    run_stages(list_stages(options.folder), options.folder, options.minutes, options.workers)


def run_stages(stages: Sequence[Stage], folder: Path, minutes: float, workers: int) -> None:
    """Run what is not done yet, and what was done before something that it follows.

    Raises:
        CalledProcessError: a training failed; the next call goes on with it.
    """
    newest = 0
    for stage in stages:
        done = folder / f"{stage.name.replace(' ', '_')}.done"
        if is_done(done, stage.share * minutes, newest):
            newest = done.stat().st_mtime_ns
            continue
        if stage.begins_anew and done.exists():
            shutil.rmtree(folder / stage.name)
        done.unlink(missing_ok=True)
        module, *arguments = stage.call
        if stage.share:
            arguments += ["--minutes", f"{stage.share * minutes:.2f}", "--workers", str(workers)]
        if stage.share and torch.cuda.is_available():
            arguments += choose_gpu_options(stage, workers)
        print(f"{stage.name}: {module} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", f"{__package__}.{module}", *arguments], check=True)
        done.write_text(f"{stage.share * minutes}\n")
        newest = done.stat().st_mtime_ns


def is_done(file: Path, minutes: float, newest: int) -> bool:
    """Whether a stage was done with so many minutes, and after the stage before (nanoseconds)."""
    if not file.exists():
        return False
    return float(file.read_text()) >= minutes and file.stat().st_mtime_ns >= newest


def choose_gpu_options(stage: Stage, workers: int) -> list[str]:
    """What a training is told beside, where a GPU learns faster than pictures are drawn: all that the
    workers draw is shown, in larger batches."""
    told = {"denoiser": ("256", "30000"), "autoencoder": ("32", "4000"), "decoder": ("32", "4000")}
    if stage.name not in told:
        return []
    batch, pool = told[stage.name]
    return ["--batch", batch, "--pool", pool, "--refresh", str(_DRAWN_A_SECOND * workers)]


if __name__ == "__main__":
    main()
