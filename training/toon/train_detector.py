"""Train the detector of drawn characters: `python -m training.toon.train_detector --minutes 40`.

The folder gets the detector in `model`, and checkpoint and log in `training`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import torch

from understudy.engines.toon_detector import ToonDetector

from .detection import DetectorTraining, measure_detector, measure_empty, prepare_figures
from .groups import Arrays, draw_figure, join_arrays, join_groups
from .muon import Muon
from .pool import HELD_OUT_SEED
from .poses import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from .sitting import begin, find_step_seed, learn_from_pool
from .trainer import Trainer, add_training_options

EMPTY_SHARE = 0.05
"""Of the drawings: in how many nobody is."""


def learn_figures(trainer: Trainer, arrays: Arrays, seed: int) -> None:
    """Take a step on drawings, changed as seed and step decide."""
    generator = torch.Generator(trainer.device).manual_seed(find_step_seed(seed, trainer.step))
    with trainer.in_precision():
        loss, figures = trainer.network(prepare_figures(arrays, trainer.device, generator))
    trainer.descend(loss, figures)


def start_trainer(network: DetectorTraining, options: argparse.Namespace) -> Trainer:
    """A trainer of the detector, gone on with where its folder has a checkpoint."""
    network.to(memory_format=torch.channels_last).train()
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
    detector = ToonDetector().to(begin(options))
    side = detector.config.side
    trainer = start_trainer(DetectorTraining(detector), options)
    held_out = {
        name: join_arrays(
            [draw_figure(HELD_OUT_SEED + number, side, families) for number in range(options.measured)]
        )
        for name, families in (("characters", TRAINING_FAMILIES), ("families", HELD_OUT_FAMILIES))
    }
    empty = join_arrays([draw_figure(HELD_OUT_SEED + number, side, empty_share=1.0) for number in range(100)])

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            for name, arrays in held_out.items():
                trainer.log(f"held-out {name}", measure_detector(network.detector, arrays))
            trainer.log("held-out empty scenes", {"somebody": measure_empty(network.detector, empty)})
            deepcopy(network.detector).half().save_pretrained(options.folder / "model")

    learn_from_pool(
        trainer,
        options,
        partial(draw_figure, side=side, empty_share=EMPTY_SHARE),
        lambda taken: learn_figures(trainer, join_groups(taken), options.seed),
        keep,
        count=options.batch,
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(parser, "detector", batch=16, learning_rate=2e-3, pool=12_000, refresh=10.0)
    parser.add_argument("--measured", type=int, default=400, help="held-out drawings of each kind")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
