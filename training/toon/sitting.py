"""A sitting of a training: how it begins, and its loop over drawings that a pool keeps."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy
import torch

from .pool import Entry, Pool
from .trainer import Trainer

_FIRST_SHARE = 0.25
"""The share of the pool that is drawn before training begins."""


def begin(options: argparse.Namespace) -> torch.device:
    """Set torch up as the options say; the device that there is to train on."""
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    if options.threads:
        torch.set_num_threads(options.threads)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_step_seed(seed: int, step: int) -> int:
    """The seed of what is random in a step; no two trainings of other seeds share one."""
    return (seed << 32) + step


def learn_from_pool(
    trainer: Trainer,
    options: argparse.Namespace,
    draw: Callable[[int], Entry],
    learn: Callable[[Entry], None],
    keep: Callable[[], None],
    *,
    count: int,
) -> None:
    """Train until the training or the sitting is over.

    `draw` makes the entry of a seed, in processes of a pool's; `learn` takes a step on `count` of them,
    stacked; `keep` writes and measures what there is, now and then and at the end.
    """
    seed = find_step_seed(options.seed, trainer.step)
    rng = numpy.random.default_rng(seed)
    with Pool(draw, options.pool, workers=options.workers, seed=seed, refresh=options.refresh) as pool:
        pool.wait(_FIRST_SHARE)
        for is_time_to_measure in count_time(trainer, options):
            learn(pool.take(rng, count))
            if is_time_to_measure():
                keep()
                trainer.rest()
    keep()


def count_time(trainer: Trainer, options: argparse.Namespace) -> Iterator[Callable[[], bool]]:
    """Once for each step until the training or the sitting is over.

    What it gives tells, asked after the step, whether it is time to measure.
    """
    measured = started = trainer.seconds

    def is_time_to_measure() -> bool:
        nonlocal measured
        if trainer.seconds - measured < 60 * options.measure_every:
            return False
        measured = trainer.seconds
        return True

    trainer.rest()
    while trainer.progress < 1 and trainer.seconds - started < 60 * options.sitting_minutes:
        yield is_time_to_measure
