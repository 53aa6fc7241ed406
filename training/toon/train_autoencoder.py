"""Train the autoencoder: `python -m training.toon.train_autoencoder --minutes 90`.

It begins with linear latents that need no training, and learns what lines, eyes and patterns need
beside them; the decoder learns to draw clean pictures of latents with errors in them. With
`--predictions` only the decoder goes on learning, from the latents that a denoiser predicted.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file

from understudy.engines.toon_autoencoder import ToonAutoencoder

from .crops import CANVAS, draw_crop, draw_whole, stack_entries
from .muon import Muon
from .pool import Entry, Pool
from .reconstruction import (
    CropBatch,
    Reconstruction,
    draw_reconstructions,
    fit_patches,
    measure_reconstruction,
    prepare_crops,
    prepare_pictures,
)
from .trainer import Trainer, add_training_options

HELD_OUT_SEED = 10**9
"""The first seed of what is measured on; training never comes so far."""
HELD_OUT = 16
FITTED = 400
"""Pictures that the linear part is fitted to, and that tell the latents' mean and deviation."""
_FITTED_SEED = 2 * 10**9


def main() -> None:
    """Train as the command line says."""
    options = _read_options()
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predicted, picture_seeds = read_predictions(options.predictions) if options.predictions else (None, None)
    fitted = draw_fitted(FITTED).to(device)
    if predicted is None:
        autoencoder = ToonAutoencoder().to(device)
        fit_patches(autoencoder, fitted)
    else:
        autoencoder = ToonAutoencoder.from_pretrained(options.model).to(device)
    trainer = make_trainer(
        autoencoder,
        options.folder,
        learning_rate=options.learning_rate,
        minutes=options.minutes,
        decoder_only=predicted is not None,
        compiled=options.compile,
    )
    resumed = trainer.resume()
    trainer.log("start", {"resumed": resumed, "batch": options.batch, "device": str(device)})
    held_out = stack_entries([draw_whole(HELD_OUT_SEED + number) for number in range(HELD_OUT)])
    make_entry = partial(draw_crop, side=options.side, picture_seeds=picture_seeds)
    seed = options.seed + trainer.step
    rng = numpy.random.default_rng(seed)
    with Pool(make_entry, options.pool, workers=options.workers, seed=seed, refresh=options.refresh) as pool:
        pool.wait(0.25)
        measured = trainer.seconds
        until = trainer.seconds + 60 * options.sitting_minutes
        trainer.rest()
        while trainer.progress < 1 and trainer.seconds < until:
            take_step(trainer, prepare_crops(pool.take(rng, options.batch), device, predicted), options.seed)
            if trainer.seconds - measured > 60 * options.measure_every:
                measured = trainer.seconds
                keep(trainer, fitted, held_out)
    keep(trainer, fitted, held_out)


def read_predictions(path: Path) -> tuple[torch.Tensor, list[int]]:
    """Latents (n, channels, h, w) that a denoiser predicted, and the seeds of the pictures that they
    should be of (`crops.make_picture`): `latents` and `seeds` of a .safetensors or .npz file."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        return tensors["latents"], tensors["seeds"].tolist()
    with numpy.load(path) as arrays:
        return torch.from_numpy(arrays["latents"]), arrays["seeds"].tolist()


def make_trainer(
    autoencoder: ToonAutoencoder,
    folder: Path,
    *,
    learning_rate: float,
    minutes: float = float("inf"),
    steps: int | None = None,
    warm_up_steps: int = 100,
    decoder_only: bool = False,
    compiled: bool = False,
) -> Trainer:
    """What trains an autoencoder, or its decoder alone."""
    autoencoder.encoder.requires_grad_(not decoder_only)
    # Smooth patches add up: one step of so wide a map would throw the latents about.
    autoencoder.encoder.linear.requires_grad_(False)
    network = Reconstruction(autoencoder, compiled=compiled).to(memory_format=torch.channels_last)
    ends = (autoencoder.encoder.detail[0], autoencoder.decoder.leave)
    return Trainer(
        network.train(),
        folder,
        learning_rate=learning_rate,
        minutes=minutes,
        steps=steps,
        warm_up_steps=warm_up_steps,
        average_decay=0.998,
        optimizer=Muon(
            [weight for weight in network.parameters() if weight.requires_grad],
            lr=learning_rate,
            plain=[weight for end in ends for weight in end.parameters()],
        ),
    )


def take_step(trainer: Trainer, batch: CropBatch, seed: int) -> None:
    """Learn from one batch; the errors in its latents are the same for the same step and seed."""
    generator = torch.Generator().manual_seed((seed << 32) + trainer.step)
    with trainer.in_precision():
        loss, figures = trainer.network(batch, generator)
    trainer.descend(loss, figures)


def draw_fitted(count: int) -> torch.Tensor:
    """Pictures on their canvas, (count, 3, 256, 256)."""
    drawn = stack_entries([draw_crop(_FITTED_SEED + number, side=16) for number in range(count)])
    return prepare_pictures(drawn["canvases"], torch.device("cpu"))


def keep(trainer: Trainer, fitted: torch.Tensor, held_out: Entry) -> None:
    """Write the checkpoint, the autoencoder with averaged weights, its figures and a sheet."""
    trainer.save()
    with trainer.averaged() as network:
        finished = copy.deepcopy(network.autoencoder)
    with torch.no_grad():
        if network.learns_latents:
            finished.set_statistics(torch.cat([finished.encode(some) for some in fitted.split(50)]))
    finished.save_pretrained(trainer.folder / "model")
    trainer.log("held out", measure_reconstruction(finished, held_out))
    sheet = draw_reconstructions(finished, held_out)
    sheet.save(trainer.folder / f"sheet_{trainer.step:07d}.png")
    trainer.rest()


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(
        parser, "autoencoder", batch=8, learning_rate=3e-3, pool=2000, refresh=12.0, measure_every=10.0
    )
    parser.add_argument("--predictions", type=Path, help="go on with the decoder from these latents")
    parser.add_argument("--model", type=Path, default=Path("build/toon/autoencoder/model"))
    parser.add_argument("--side", type=int, default=CANVAS // 2, help="of a piece, pixels of the canvas")
    return parser.parse_args()


if __name__ == "__main__":
    main()
