"""Train the autoencoder: `python -m training.toon.train_autoencoder --minutes 90`.

It begins with linear latents that need no training, and learns what lines, eyes and patterns need
beside them; the decoder learns to draw clean pictures of latents with errors in them. With
`--predictions` only the decoder of `--model` goes on learning, from the latents that a denoiser
predicted, in a folder of its own.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from understudy.engines.toon_autoencoder import ToonAutoencoder

from .crops import CANVAS, draw_crop, draw_whole, stack_entries
from .muon import Muon
from .pool import HELD_OUT_SEED, Entry
from .reconstruction import (
    CropBatch,
    Reconstruction,
    draw_reconstructions,
    fit_patches,
    measure_reconstruction,
    prepare_crops,
    prepare_pictures,
)
from .sitting import begin, find_step_seed, learn_from_pool
from .trainer import BUILD, Trainer, add_training_options

HELD_OUT = 16
FITTED = 400
"""Pictures that the linear part is fitted to, and that tell the latents' mean and deviation."""
_FITTED_SEED = 2 * 10**9


def main() -> None:
    """Train as the command line says."""
    options = _read_options()
    device = begin(options)
    predicted, picture_seeds = read_predictions(options.predictions) if options.predictions else (None, None)
    fitted = draw_fitted(FITTED).to(device) if predicted is None else None
    if fitted is not None:
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
    resumed = trainer.resume(frozen_are_given=predicted is not None)
    trainer.log("start", {"resumed": resumed, "batch": options.batch, "device": str(device)})
    held_out = stack_entries([draw_whole(HELD_OUT_SEED + number) for number in range(HELD_OUT)])
    learn_from_pool(
        trainer,
        options,
        partial(draw_crop, side=options.side, picture_seeds=picture_seeds),
        lambda taken: take_step(trainer, prepare_crops(taken, device, predicted), options.seed),
        lambda: keep(trainer, fitted, held_out),
        count=options.batch,
    )


def read_predictions(path: Path) -> tuple[torch.Tensor, list[int]]:
    """Latents (n, channels, h, w) that a denoiser predicted, and the seeds of the pictures that they
    should be of (`crops.make_picture`): what `predict` wrote."""
    tensors = load_file(path)
    return tensors["latents"], tensors["seeds"].tolist()


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
    generator = torch.Generator().manual_seed(find_step_seed(seed, trainer.step))
    with trainer.in_precision():
        loss, figures = trainer.network(batch, generator)
    trainer.descend(loss, figures)


def draw_fitted(count: int) -> torch.Tensor:
    """Pictures on their canvas, (count, 3, 256, 256)."""
    drawn = stack_entries([draw_crop(_FITTED_SEED + number, side=16) for number in range(count)])
    return prepare_pictures(drawn["canvases"], torch.device("cpu"))


def keep(trainer: Trainer, fitted: torch.Tensor | None, held_out: Entry) -> None:
    """Write the checkpoint, the autoencoder with averaged weights, its figures and a sheet.

    The latents' mean and deviation are those of `fitted` pictures; without these they stay.
    """
    trainer.save()
    with trainer.averaged() as network:
        finished = copy.deepcopy(network.autoencoder)
    with torch.no_grad():
        if fitted is not None:
            finished.set_statistics(torch.cat([finished.encode(some) for some in fitted.split(50)]))
    finished.save_pretrained(trainer.folder / "model")
    trainer.log("held out", measure_reconstruction(finished, held_out))
    sheet = draw_reconstructions(finished, held_out)
    sheet.save(trainer.folder / f"sheet_{trainer.step:07d}.png")


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(
        parser, None, batch=8, learning_rate=3e-3, pool=2000, refresh=12.0, measure_every=10.0
    )
    parser.add_argument("--predictions", type=Path, help="go on with the decoder from these latents")
    parser.add_argument("--model", type=Path, default=BUILD / "autoencoder" / "model")
    parser.add_argument("--side", type=int, default=CANVAS // 2, help="of a piece, pixels of the canvas")
    options = parser.parse_args()
    if options.folder is None:
        options.folder = BUILD / ("decoder" if options.predictions else "autoencoder")
    return options


if __name__ == "__main__":
    main()
