"""Measure a checkpoint: `python -m training.toon.evaluate --checkpoint FOLDER --examiner FOLDER`.

Characters that no training saw, in families of poses that none learned from, are drawn by the product's
engine, and read by networks that the model never met. Writes `evaluation.json` (every figure with its
95 % interval), `evaluation.md` (the tables of the model card) and grids of the first cases. An evaluation
that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from diffusers.utils.logging import set_verbosity_error

from .artist import WARM_UPS, Artist
from .evaluation import Condition, Evaluation, Results, prepare_material
from .examination import Instruments
from .examiner import Examiner
from .figures import Figure
from .grids import draw_orders, draw_samples
from .loupe import Loupe
from .report import write_report
from .scores import measure_detector, measure_drawn_likeness, measure_likeness

WHOLE = Condition()
"""What the product promises, and what the figures are told for: a reference, a pose and a prompt that says
nothing of the character; 10 steps, guidance 3."""
BASELINES = {
    "full_prompt": Condition(prompt="full"),
    "prompt_only": Condition(prompt="full", references=0),
    "no_reference": Condition(references=0),
    "reference_only": Condition(prompt="none"),
    "no_pose": Condition(posed=False),
}
ORDER = Condition(prompt="order")
TWO_REFERENCES = Condition(references=2)
CANDIDATES = 4
COMPARED = (("drawn", "prompt_only"), ("full_prompt", "prompt_only"), ("full_prompt", "drawn"))
"""Of which pairs of conditions the differences are told."""
VARIANTS = (
    *(Condition(steps=steps) for steps in (4, 10, 20, 50)),
    *(Condition(guidance_scale=scale) for scale in (1.0, 7.0)),
)

_GRID_CASES = 12
_MANY_STEPS = 50


@dataclass(frozen=True)
class Scope:
    """How many cases are drawn whole, for each baseline, for orders, for each variant (and with 50
    steps), for two references, four candidates and the product's scores; of how many strangers Frechet
    distances are measured to true drawings; and how many pictures are timed."""

    cases: int = 400
    baselines: int = 100
    orders: int = 200
    variants: int = 200
    many_steps: int = 60
    pairs: int = 100
    strangers: int = 400
    timed: int = 6

    def limit(self, cases: int) -> Scope:
        """The same with at most so many cases of anything but what is timed."""
        counts = {name: min(cases, count) for name, count in asdict(self).items() if name != "timed"}
        return Scope(**counts | {"cases": cases, "strangers": max(cases, 2), "timed": self.timed})

    def count_cases(self, condition: Condition) -> int:
        """How many cases are drawn of a variant."""
        return self.many_steps if condition.steps >= _MANY_STEPS else self.variants


QUICK = Scope(cases=10, baselines=6, orders=6, variants=2, many_steps=2, pairs=2, strangers=12, timed=1)
"""To see that everything runs; its figures mean nothing."""


def main() -> None:
    """Evaluate as the command line says."""
    options = _read_options()
    set_verbosity_error()
    report = evaluate(
        options.checkpoint,
        options.examiner,
        options.folder,
        QUICK if options.quick else Scope().limit(options.characters),
        device=options.device,
        workers=options.workers,
    )
    print(write_report(report))


def evaluate(
    checkpoint: Path,
    examiner_folder: Path,
    folder: Path,
    scope: Scope,
    *,
    device: str = "auto",
    workers: int = 1,
) -> dict[str, Any]:
    """Every figure of a checkpoint; written, with tables and grids, into `folder`.

    Raises:
        EngineError: the checkpoint cannot be loaded.
    """
    instruments = _load_instruments(examiner_folder)
    tell = _Clock()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        material = prepare_material(instruments, scope.cases, scope.strangers, executor)
    tell("the cases and their crowds are drawn")
    artist = Artist(checkpoint, folder / "drawn", device)
    evaluation = Evaluation(instruments, artist, material)
    report = {
        "checkpoint": artist.digest,
        "device": artist.device,
        "cores": os.cpu_count(),
        "scope": asdict(scope),
        "likeness_floor": artist.likeness_floor,
    }
    for name, measure in (
        ("conditions", _measure_conditions),
        ("spoiled", _measure_spoiled),
        ("differences", _compare_conditions),
        ("orders", _measure_orders),
        ("negatives", _measure_negatives),
        ("variants", _measure_variants),
        ("pairs", _measure_pairs),
        ("scores", _measure_scores),
    ):
        report[name] = _to_json(measure(evaluation, scope))
        tell(f"{name}: measured")
    (folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "evaluation.md").write_text(write_report(report))
    shown = min(_GRID_CASES, scope.baselines)
    drawings = (WHOLE, BASELINES["full_prompt"], BASELINES["prompt_only"])
    draw_samples(evaluation, drawings, shown, folder / "samples.png")
    draw_orders(evaluation, ORDER, shown, folder / "orders.png")
    return report


def _load_instruments(folder: Path) -> Instruments:
    """The networks that `train_examiner` wrote."""
    networks = Examiner.from_pretrained(folder / "examiner"), Loupe.from_pretrained(folder / "loupe")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Instruments(*(one.eval().to(device, memory_format=torch.channels_last) for one in networks))


def _measure_conditions(evaluation: Evaluation, scope: Scope) -> dict[str, Results]:
    drawn = evaluation.measure(WHOLE, scope.cases) | evaluation.measure_cleanliness(WHOLE, scope.cases)
    return {
        "drawn": drawn,
        **{name: evaluation.measure(one, scope.baselines) for name, one in BASELINES.items()},
        **evaluation.measure_bounds(),
    }


def _measure_spoiled(evaluation: Evaluation, scope: Scope) -> Results:
    return evaluation.measure_spoiled(scope.pairs)


def _compare_conditions(evaluation: Evaluation, scope: Scope) -> dict[str, Results]:
    named = BASELINES | {"drawn": WHOLE}
    return {
        f"{first} - {second}": evaluation.compare(named[first], named[second], scope.baselines)
        for first, second in COMPARED
    }


def _measure_orders(evaluation: Evaluation, scope: Scope) -> dict[str, Results]:
    return {
        "drawn": evaluation.measure_orders(ORDER, scope.orders),
        "reference_only": evaluation.measure_orders(BASELINES["reference_only"], scope.baselines),
        "truth": evaluation.measure_orders_on_truth(scope.orders),
    }


def _measure_negatives(evaluation: Evaluation, scope: Scope) -> Results:
    return evaluation.measure_negatives(BASELINES["reference_only"], scope.baselines)


def _measure_variants(evaluation: Evaluation, scope: Scope) -> list[dict[str, Any]]:
    """The figures of each variant, their differences to the whole, and the seconds of a picture."""
    variants = []
    for condition in VARIANTS:
        count = scope.count_cases(condition)
        requests = (evaluation.ask(index % scope.cases, condition) for index in range(WARM_UPS + scope.timed))
        seconds = evaluation.artist.time_drawing(requests)
        variants.append(
            {
                "steps": condition.steps,
                "guidance_scale": condition.guidance_scale,
                "median_seconds": float(numpy.median(seconds)),
                "figures": evaluation.measure(condition, count)
                | evaluation.measure_cleanliness(condition, count),
                "differences": evaluation.compare_variants(condition, WHOLE, count),
            }
        )
    return variants


def _measure_pairs(evaluation: Evaluation, scope: Scope) -> dict[str, dict[str, Results]]:
    """One picture of one reference, and what two references and four candidates make of it."""
    count = scope.pairs
    best, better = evaluation.compare_best(WHOLE, count, CANDIDATES)
    return {
        "one": {"figures": evaluation.measure(WHOLE, count)},
        "two_references": {
            "figures": evaluation.measure(TWO_REFERENCES, count),
            "differences": evaluation.compare(TWO_REFERENCES, WHOLE, count),
        },
        "best_of_four": {"figures": best, "differences": better},
    }


def _measure_scores(evaluation: Evaluation, scope: Scope) -> dict[str, Results]:
    """The product's own scores, on true drawings and on what was drawn."""
    artist, count = evaluation.artist, scope.pairs
    cases, skeletons = evaluation.material.cases[:count], evaluation.material.truth.skeletons[:count]
    scores = {
        "likeness": measure_likeness(artist, cases),
        "drawn_likeness": measure_drawn_likeness(artist, cases, evaluation.draw_cases(WHOLE, count)),
    }
    if artist.has_detector:
        right = (case.draw_truth() for case in cases)
        scores["detector"] = measure_detector(artist, right, skeletons)
        drawn = evaluation.draw_cases(WHOLE, count)
        scores["detector_on_drawn"] = measure_detector(artist, drawn, skeletons)
    return scores


class _Clock:
    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, words: str) -> None:
        print(f"{(time.perf_counter() - self._start) / 60:6.1f} min: {words}", flush=True)


def _to_json(value: Any) -> Any:
    match value:
        case Figure():
            return _to_json(asdict(value))
        case Mapping():
            return {name: _to_json(one) for name, one in value.items()}
        case list():
            return [_to_json(one) for one in value]
        case float():
            return round(value, 5)
        case _:
            return value


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/toon/checkpoint"))
    parser.add_argument("--examiner", type=Path, default=Path("build/toon/examiner/model"))
    parser.add_argument("--folder", type=Path, default=Path("build/toon/evaluation"))
    parser.add_argument("--characters", type=int, default=Scope.cases, help="cases that are drawn")
    parser.add_argument("--quick", action="store_true", help="a handful of cases, to see that it runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw cases")
    return parser.parse_args()


if __name__ == "__main__":
    main()
