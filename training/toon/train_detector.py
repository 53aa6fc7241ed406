"""Train the detector of drawn characters: `python -m training.toon.train_detector --minutes 40`.

The folder gets the detector in `model`, and checkpoint and log in `training`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import numpy
import torch

from understudy.engines.toon_detector import ToonDetector

from .detection import DetectorTraining, measure_detector, prepare_figures
from .groups import Arrays, draw_figure, join_arrays, join_groups
from .muon import Muon
from .pool import Pool
from .poses import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from .trainer import Trainer, add_training_options, count_time

HELD_OUT_SEED = 10**9
"""The first seed of what is measured on; training never comes so far."""


def learn_figures(trainer: Trainer, arrays: Arrays, seed: int) -> None:
    """Take a step on drawings, changed as seed and step decide."""
    generator = torch.Generator(trainer.device).manual_seed(seed + trainer.step)
    with trainer.in_precision():
        loss, figures = trainer.network(prepare_figures(arrays, trainer.device, generator))
    trainer.descend(loss, figures)


def start_trainer(network: DetectorTraining, options: argparse.Namespace) -> Trainer:
    """A trainer of the detector, gone on with where its folder has a checkpoint."""
    network.to("cuda" if torch.cuda.is_available() else "cpu", memory_format=torch.channels_last).train()
    outside = ("stem", "head", "position")
    plain = [weight for name, weight in network.named_parameters() if any(part in name for part in outside)]
    trainer = Trainer(
        network,
        options.folder / "training",
        learning_rate=options.learning_rate,
        minutes=options.minutes,
        optimizer=Muon(network.parameters(), lr=options.learning_rate, plain=plain),
    )
    if options.compile:
        network.detector.compile(dynamic=False)
    trainer.log("start", {"resumed": trainer.resume(), "batch": options.batch, "device": str(trainer.device)})
    return trainer


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = _read_options(arguments)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    detector = ToonDetector()
    side = detector.config.side
    trainer = start_trainer(DetectorTraining(detector), options)
    held_out = {
        name: join_arrays(
            [draw_figure(HELD_OUT_SEED + number, side, families) for number in range(options.measured)]
        )
        for name, families in (("characters", TRAINING_FAMILIES), ("families", HELD_OUT_FAMILIES))
    }

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            for name, arrays in held_out.items():
                trainer.log(f"held-out {name}", measure_detector(network.detector, arrays))
            deepcopy(network.detector).half().save_pretrained(options.folder / "model")
        trainer.rest()

    rng = numpy.random.default_rng((options.seed, trainer.step))
    draw_one = partial(draw_figure, side=side)
    pool = Pool(
        draw_one,
        options.pool,
        workers=options.workers,
        seed=options.seed + trainer.step,
        refresh=options.refresh,
    )
    with pool:
        pool.wait(0.25)
        for is_time_to_measure in count_time(trainer, options.sitting_minutes, options.measure_every):
            learn_figures(trainer, join_groups(pool.take(rng, options.batch)), options.seed)
            if is_time_to_measure():
                keep()
    keep()


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(parser, "detector", batch=16, learning_rate=2e-3, pool=12_000, refresh=10.0)
    parser.add_argument("--measured", type=int, default=400, help="held-out drawings of each kind")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
