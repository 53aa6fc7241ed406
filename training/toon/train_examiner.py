"""Train the examiner, which measures what models draw: `python -m training.toon.train_examiner --minutes 30`.

The folder gets the examiner in `model`, and checkpoint and log in `training`. What it cannot tell on
true drawings that it never saw is in the log; an evaluation tells the same as the ceiling of each
figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy
import torch

from .examiner import SIDE, Examiner
from .examiner_training import ExaminerTraining, draw_group, measure_examiner, prepare_batch
from .groups import GROUP, Arrays, join_arrays, join_groups
from .muon import Muon
from .pool import Pool
from .trainer import Trainer, add_training_options, count_time

HELD_OUT_SEED = -(10**9)
"""The last seed of what is measured on; a pool's seeds are not below 0."""

_FIRST_SHARE = 0.25
"""The share of the pool that is drawn before training begins."""
_GROUPS_AT_ONCE = 16


def learn_groups(trainer: Trainer, arrays: Arrays, seed: int) -> None:
    """Take a step on drawings, changed as seed and step decide."""
    generator = torch.Generator(trainer.device).manual_seed((seed << 32) + trainer.step)
    batch, answers = prepare_batch(arrays, trainer.device, generator)
    with trainer.in_precision():
        loss, losses = trainer.network(batch, answers)
    trainer.descend(loss, losses)


def choose_optimizer(network: ExaminerTraining, learning_rate: float) -> Muon:
    """Muon for all but the first layer and the last ones of maps: it learns in a third of the steps."""
    outside = ("stem.0", "heatmap_head.1", "parts_head", "sharpness")
    plain = [weight for name, weight in network.named_parameters() if any(part in name for part in outside)]
    return Muon(network.parameters(), lr=learning_rate, plain=plain)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = _read_options(arguments)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    network = ExaminerTraining(Examiner()).to("cuda" if torch.cuda.is_available() else "cpu")
    network.to(memory_format=torch.channels_last)
    trainer = Trainer(
        network.train(),
        options.folder / "training",
        learning_rate=options.learning_rate,
        minutes=options.minutes,
        optimizer=choose_optimizer(network, options.learning_rate),
    )
    if options.compile:
        network.examiner.compile(dynamic=False)
    trainer.log("start", {"resumed": trainer.resume(), "batch": options.batch, "device": str(trainer.device)})
    groups = [draw_group(HELD_OUT_SEED + number, SIDE) for number in range(options.measured // GROUP)]
    held_out = [
        join_arrays(groups[start : start + _GROUPS_AT_ONCE])
        for start in range(0, len(groups), _GROUPS_AT_ONCE)
    ]

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            trainer.log("held out", measure_examiner(network.examiner, held_out))
            network.examiner.save_pretrained(options.folder / "model")
        trainer.rest()

    rng = numpy.random.default_rng((options.seed, trainer.step))
    draw = partial(draw_group, side=SIDE)
    pool = Pool(
        draw,
        options.pool,
        workers=options.workers,
        seed=options.seed + trainer.step,
        refresh=options.refresh,
    )
    with pool:
        pool.wait(_FIRST_SHARE)
        for is_time_to_measure in count_time(trainer, options.sitting_minutes, options.measure_every):
            learn_groups(trainer, join_groups(pool.take(rng, options.batch // GROUP)), options.seed)
            if is_time_to_measure():
                keep()
    keep()


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(parser, "examiner", batch=32, learning_rate=1e-2, pool=4000, refresh=4.0)
    parser.add_argument("--measured", type=int, default=400, help="held-out drawings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
