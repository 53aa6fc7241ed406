"""The report of an evaluation: tables in Markdown, and grids of what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from understudy.pose.drawing import draw_skeleton

from .cases import SIDE
from .evaluation import Condition, Evaluation
from .examination import MAIN_ATTRIBUTES, OPTIONAL_ATTRIBUTES

_THUMBNAIL = 192
_TEXT_HEIGHT = 18
_MAIN_ROWS = {
    "identity": ("identity: finds its own among 50, 20 of them different in one attribute only", "≥ 95 %"),
    "attributes": ("hair, skin, top, bottom, shoes: kinds, colours and pattern read right", "≥ 95 %"),
    "optional_present": ("layer, hat, glasses, beard, accessory read right where there is one", ""),
    "optional_absent": ("none of these read where there is none", ""),
    "expression": ("expression", ""),
    "pose": ("pose: PCK@0.1 of the torso's length", "≥ 95 %"),
}
_MAIN_COLUMNS = {
    "drawn": "drawn",
    "prompt_only": "prompt only",
    "reference_only": "reference only",
    "no_pose": "no pose",
    "copy": "reference pasted",
    "truth": "true drawings",
}


def write_report(report: dict[str, Any]) -> str:
    """The tables of a report, each share with its 95 % interval and the number of pictures."""
    conditions, orders, negatives = report["conditions"], report["orders"], report["negatives"]
    drawn = conditions["drawn"]
    main = [
        [words, *(_tell_share(conditions[name][key]) for name in _MAIN_COLUMNS), aim]
        for key, (words, aim) in _MAIN_ROWS.items()
    ]
    ordered = [
        [words, *(_tell_share(orders[name][key]) for name in ("drawn", "reference_only", "truth")), aim]
        for key, words, aim in (
            ("orders", "what the prompt asks for against the reference is drawn", "≥ 80 %"),
            ("orders_that_add", "of these: something added or exchanged", ""),
            ("orders_that_take_away", "of these: something taken away", ""),
            ("rest_stays", "the other attributes stay", ""),
        )
    ]
    ordered.append(
        [
            "a thing that the reference has is lacking when the negative prompt names it",
            *(_tell_share(negatives[key]) for key in ("with_negative_prompt", "without", "truth")),
            "",
        ]
    )
    clean = [
        [
            "Frechet distance to true drawings of others",
            *(_tell(conditions[name]["frechet"], 3) for name in ("drawn", "reconstruction", "truth")),
            "",
        ],
        [
            "as a multiple of the autoencoder's own",
            _tell(drawn["frechet_ratio"], 2),
            "1",
            "",
            "≤ 1.3",
        ],
        [
            "sharpness of edges, of the true drawing's",
            *(_tell(conditions[name]["sharpness"], 2) for name in ("drawn", "reconstruction", "truth")),
            "",
        ],
    ]
    each = [
        [name, *(_tell_alone(conditions[column][name]) for column in _MAIN_COLUMNS)]
        for name in (*MAIN_ATTRIBUTES, *OPTIONAL_ATTRIBUTES, "hat_colour", "layer_colour", "layer_pattern")
    ]
    variants = [
        [
            str(variant["steps"]),
            f"{variant['guidance_scale']:g}",
            *(_tell_share(variant[key]) for key in ("identity", "attributes", "pose")),
            _tell(variant["sharpness"], 2),
            f"{variant['seconds']['value']:.2f}",
        ]
        for variant in report["variants"]
    ]
    return "\n".join(
        [
            *_write_table(["figure", *_MAIN_COLUMNS.values(), "aim"], main),
            *_write_table(
                ["prompt against reference", "drawn", "no prompt", "true drawings", "aim"], ordered
            ),
            *_write_table(
                ["cleanliness", "drawn", "reconstructed", "true drawings", "aim"],
                clean,
            ),
            *_write_table(
                ["steps", "guidance", "identity", "attributes", "pose", "sharpness", "seconds"], variants
            ),
            *_write_table(["attribute", *_MAIN_COLUMNS.values()], each),
        ]
    )


def draw_samples(
    evaluation: Evaluation, indices: Sequence[int], conditions: Sequence[Condition], path: Path
) -> None:
    """Write a grid, a column for each case: reference, skeleton, true drawing, and what is drawn under
    each condition."""
    material = evaluation.material
    columns = []
    for index in indices:
        case = material.cases[index]
        skeleton = draw_skeleton(material.truth.skeletons[index], SIDE, SIDE)
        drawn = [evaluation.draw_case(index, condition) for condition in conditions]
        columns.append([case.draw_reference(), skeleton, case.draw_truth(), *drawn])
    grid = Image.new("RGB", (_THUMBNAIL * len(columns), _THUMBNAIL * len(columns[0])), "white")
    for left, column in enumerate(columns):
        for top, picture in enumerate(column):
            grid.paste(_shrink(picture), (_THUMBNAIL * left, _THUMBNAIL * top))
    grid.save(path)


def draw_orders(evaluation: Evaluation, indices: Sequence[int], condition: Condition, path: Path) -> None:
    """Write a grid, a column for each case: reference, the order, what it asks for, and what is drawn."""
    height = 3 * _THUMBNAIL + _TEXT_HEIGHT
    grid = Image.new("RGB", (_THUMBNAIL * len(indices), height), "white")
    pen, font = ImageDraw.Draw(grid), ImageFont.load_default(10)
    for column, index in enumerate(indices):
        case = evaluation.material.cases[index]
        left = _THUMBNAIL * column
        pictures = (
            case.draw_reference(),
            case.draw_truth(changed=True),
            evaluation.draw_case(index, condition),
        )
        pen.text((left + 3, _THUMBNAIL + 3), case.order[:38], "black", font)
        for row, picture in enumerate(pictures):
            grid.paste(_shrink(picture), (left, _THUMBNAIL * row + (_TEXT_HEIGHT if row else 0)))
    grid.save(path)


def _shrink(picture: Image.Image) -> Image.Image:
    return picture.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)


def _tell_share(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value, low, high = (100 * min(1.0, max(0.0, figure[key])) for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f}, n = {figure['count']})"


def _tell_alone(figure: dict[str, Any] | None) -> str:
    return "–" if figure is None else f"{100 * figure['value']:.1f} %"


def _tell(figure: dict[str, Any] | None, digits: int) -> str:
    if figure is None:
        return "–"
    value, low, high = (f"{figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}–{high}, n = {figure['count']})"


def _write_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]
