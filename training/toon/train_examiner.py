"""Train the networks that measure what models draw: `python -m training.toon.train_examiner --minutes 40`.

First the examiner, then, in a quarter of the minutes, the loupe. The folder gets them in `model`, which
an evaluation reads, and checkpoints and logs in `training`. What they cannot tell on true drawings that
they never saw is in the logs; an evaluation tells the same as the ceiling of each figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy
import torch

from .examiner import SIDE, Examiner
from .examiner_training import ExaminerTraining, draw_examples, measure_examiner, prepare_batch
from .groups import GROUP, Arrays, join_arrays, join_groups
from .loupe import Loupe, LoupeTraining, draw_piece, measure_loupe
from .muon import Muon
from .pool import HELD_OUT_SEED
from .sitting import begin, find_step_seed, learn_from_pool
from .trainer import Trainer, add_training_options

_LOUPE_SHARE = 0.25
"""Of the minutes."""
_LOUPE_RATE_SHARE = 0.1
"""Of the learning rate: without normalisation steps have to be smaller."""
_GROUPS_AT_ONCE = 16


def learn_groups(trainer: Trainer, arrays: Arrays, seed: int) -> None:
    """Take a step on drawings, changed as seed and step decide."""
    generator = torch.Generator(trainer.device).manual_seed(find_step_seed(seed, trainer.step))
    batch, answers = prepare_batch(arrays, trainer.device, generator)
    with trainer.in_precision():
        loss, losses = trainer.network(batch, answers)
    trainer.descend(loss, losses)


def learn_pieces(trainer: Trainer, arrays: Arrays) -> None:
    """Take a step on pieces, as clean as they are."""
    with trainer.in_precision():
        loss, losses = trainer.network(arrays)
    trainer.descend(loss, losses)


def choose_optimizer(network: ExaminerTraining, learning_rate: float) -> Muon:
    """Muon for all but the first layer and the last ones of maps: it learns in a third of the steps."""
    outside = ("stem.0", "heatmap_head.1", "parts_head", "sharpness")
    plain = [weight for name, weight in network.named_parameters() if any(part in name for part in outside)]
    return Muon(network.parameters(), lr=learning_rate, plain=plain)


def train_examiner(options: argparse.Namespace, device: torch.device) -> None:
    """Train the examiner as the options say."""
    network = ExaminerTraining(Examiner()).to(device, memory_format=torch.channels_last)
    trainer = Trainer(
        network.train(),
        options.folder / "training" / "examiner",
        learning_rate=options.learning_rate,
        minutes=(1 - _LOUPE_SHARE) * options.minutes,
        optimizer=choose_optimizer(network, options.learning_rate),
    )
    if options.compile:
        network.examiner.compile(dynamic=False)
    trainer.log("start", {"resumed": trainer.resume(), "batch": options.batch, "device": str(trainer.device)})
    groups = [draw_examples(HELD_OUT_SEED + number, SIDE) for number in range(options.measured // GROUP)]
    held_out = [
        join_arrays(groups[start : start + _GROUPS_AT_ONCE])
        for start in range(0, len(groups), _GROUPS_AT_ONCE)
    ]

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            trainer.log("held out", measure_examiner(network.examiner, held_out))
            network.examiner.save_pretrained(options.folder / "model" / "examiner")

    learn_from_pool(
        trainer,
        options,
        partial(draw_examples, side=SIDE),
        lambda taken: learn_groups(trainer, join_groups(taken), options.seed),
        keep,
        count=options.batch // GROUP,
    )


def train_loupe(options: argparse.Namespace, device: torch.device) -> None:
    """Train the loupe as the options say."""
    network = LoupeTraining(Loupe()).to(device, memory_format=torch.channels_last)
    rate = _LOUPE_RATE_SHARE * options.learning_rate
    trainer = Trainer(
        network.train(),
        options.folder / "training" / "loupe",
        learning_rate=rate,
        minutes=_LOUPE_SHARE * options.minutes,
        optimizer=torch.optim.AdamW(network.parameters(), lr=rate),
    )
    if options.compile:
        network.loupe.compile(dynamic=False)
    trainer.log("start", {"resumed": trainer.resume(), "batch": options.batch, "device": str(trainer.device)})
    pieces = [draw_piece(HELD_OUT_SEED + number) for number in range(options.measured)]
    held_out = {name: numpy.stack([piece[name] for piece in pieces]) for name in pieces[0]}

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            trainer.log("held out", measure_loupe(network.loupe, held_out))
            network.loupe.save_pretrained(options.folder / "model" / "loupe")

    learn_from_pool(trainer, options, draw_piece, partial(learn_pieces, trainer), keep, count=options.batch)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = _read_options(arguments)
    device = begin(options)
    train_examiner(options, device)
    train_loupe(options, device)


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(parser, "examiner", batch=32, learning_rate=1e-2, pool=4000, refresh=4.0)
    parser.add_argument("--measured", type=int, default=400, help="held-out drawings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
