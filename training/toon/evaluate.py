"""Measure a checkpoint: `python -m training.toon.evaluate --checkpoint FOLDER --examiner FOLDER`.

Characters and families of poses that no training saw are drawn by the product's engine, and read by
an examiner that the model never met. Writes `evaluation.json` (every figure with its 95 % interval),
`evaluation.md` (the tables of the model card) and grids of the first cases. An evaluation that was
interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import set_verbosity_error

from .artist import Artist
from .evaluation import Condition, Evaluation, Figures, prepare_material
from .examiner import Examiner
from .report import draw_orders, draw_samples, write_report

WHOLE = Condition()
"""What the figures are told for: reference, prompt and pose, 10 steps, guidance 3."""
BASELINES = {
    "prompt_only": Condition(reference=False),
    "reference_only": Condition(prompt="none"),
    "no_pose": Condition(posed=False),
}
ORDER = Condition(prompt="order")
VARIANTS = (
    *(Condition(steps=steps) for steps in (4, 10, 20, 50)),
    *(Condition(guidance_scale=scale) for scale in (1.0, 7.0)),
)

_GRID_CASES = 12


@dataclass(frozen=True)
class Scope:
    """How many cases the whole model draws, each baseline, and each of the variants; and of how many
    strangers Frechet distances are measured to true drawings."""

    cases: int = 500
    baselines: int = 200
    variants: int = 60
    strangers: int = 1000


QUICK = Scope(cases=10, baselines=6, variants=2, strangers=12)
"""To see that everything runs; its figures mean nothing."""


def main() -> None:
    """Evaluate as the command line says."""
    options = _read_options()
    set_verbosity_error()
    scope = Scope(
        options.characters, min(200, options.characters), min(60, options.characters), 2 * options.characters
    )
    report = evaluate(
        options.checkpoint,
        options.examiner,
        options.folder,
        QUICK if options.quick else scope,
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
    examiner = Examiner.from_pretrained(examiner_folder).eval().to(memory_format=torch.channels_last)
    if torch.cuda.is_available():
        examiner.to("cuda")
    tell = _Clock()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        material = prepare_material(examiner, scope.cases, scope.strangers, executor)
    tell("the cases and their lineups are drawn")
    artist = Artist(checkpoint, folder / "drawn", device)
    evaluation = Evaluation(examiner, artist, material)
    conditions = evaluation.measure_bounds()
    tell("true drawings, reconstructions and references are measured")
    conditions["drawn"] = evaluation.measure_drawn(WHOLE, scope.cases)
    conditions["drawn"]["frechet_ratio"] = evaluation.compare_cleanliness(WHOLE)
    tell("what the whole model drew is measured")
    for name, condition in BASELINES.items():
        conditions[name] = evaluation.measure_drawn(condition, scope.baselines)
        tell(f"{name} is measured")
    orders = {
        "drawn": evaluation.measure_orders(ORDER, scope.baselines),
        "reference_only": evaluation.measure_orders(BASELINES["reference_only"], scope.baselines),
        "truth": evaluation.measure_orders_on_truth(scope.baselines),
    }
    tell("orders are measured")
    negatives = evaluation.measure_negatives(BASELINES["reference_only"], scope.baselines)
    tell("negative prompts are measured")
    variants = []
    for condition in VARIANTS:
        figures = evaluation.measure_drawn(condition, scope.variants)
        variants.append(
            {"steps": condition.steps, "guidance_scale": condition.guidance_scale} | _to_json(figures)
        )
        tell(f"{condition.steps} steps at guidance {condition.guidance_scale:g} are measured")
    report = {
        "checkpoint": artist.digest,
        "device": artist.device,
        "cores": os.cpu_count(),
        "conditions": {name: _to_json(figures) for name, figures in conditions.items()},
        "orders": {name: _to_json(figures) for name, figures in orders.items()},
        "negatives": _to_json(negatives),
        "variants": variants,
    }
    (folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "evaluation.md").write_text(write_report(report))
    shown = range(min(_GRID_CASES, scope.baselines))
    drawings = (WHOLE, BASELINES["prompt_only"], BASELINES["reference_only"])
    draw_samples(evaluation, shown, drawings, folder / "samples.png")
    draw_orders(evaluation, shown, ORDER, folder / "orders.png")
    return report


class _Clock:
    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, words: str) -> None:
        print(f"{(time.perf_counter() - self._start) / 60:6.1f} min: {words}", flush=True)


def _to_json(figures: Figures) -> dict[str, Any]:
    def plain(value: float | int) -> float | int:
        return value if isinstance(value, int) else round(value, 5)

    return {
        name: figure and {key: plain(value) for key, value in asdict(figure).items()}
        for name, figure in figures.items()
    }


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
