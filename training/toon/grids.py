"""Grids of what was drawn in an evaluation, of the first cases, not by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from understudy.pose.drawing import draw_skeleton

from .cases import SIDE
from .evaluation import Condition, Evaluation

_THUMBNAIL = 192
_TEXT_HEIGHT = 18


def draw_samples(evaluation: Evaluation, conditions: Sequence[Condition], count: int, path: Path) -> None:
    """Write a grid, a column for each of the first cases: reference, skeleton, true drawing, and what is
    drawn under each condition."""
    material = evaluation.material
    cases, skeletons = material.cases[:count], material.truth.skeletons
    rows = [
        [case.draw_reference() for case in cases],
        [draw_skeleton(skeleton, SIDE, SIDE) for skeleton in skeletons[:count]],
        [case.draw_truth() for case in cases],
        *(list(evaluation.draw_cases(condition, count)) for condition in conditions),
    ]
    grid = Image.new("RGB", (_THUMBNAIL * count, _THUMBNAIL * len(rows)), "white")
    for top, row in enumerate(rows):
        for left, picture in enumerate(row):
            grid.paste(_shrink(picture), (_THUMBNAIL * left, _THUMBNAIL * top))
    grid.save(path)


def draw_orders(evaluation: Evaluation, condition: Condition, count: int, path: Path) -> None:
    """Write a grid, a column for each of the first cases: reference, the order, what it asks for, and
    what is drawn."""
    grid = Image.new("RGB", (_THUMBNAIL * count, 3 * _THUMBNAIL + _TEXT_HEIGHT), "white")
    pen, font = ImageDraw.Draw(grid), ImageFont.load_default(10)
    drawn = evaluation.draw_cases(condition, count)
    for column, (case, picture) in enumerate(zip(evaluation.material.cases, drawn, strict=False)):
        left = _THUMBNAIL * column
        pen.text((left + 3, _THUMBNAIL + 3), case.order[:38], "black", font)
        for row, one in enumerate((case.draw_reference(), case.draw_truth(changed=True), picture)):
            grid.paste(_shrink(one), (left, _THUMBNAIL * row + (_TEXT_HEIGHT if row else 0)))
    grid.save(path)


def _shrink(picture: Image.Image) -> Image.Image:
    return picture.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
