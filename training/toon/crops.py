"""What the autoencoder learns from: a picture on its canvas, and a piece of it four times as large."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy

from understudy.engines.toon_autoencoder import CELL

from .character import Character, make_character
from .pool import Entry
from .renderer import Shot, draw, make_shot

CANVAS = 256
"""Pixels of a side of the canvas."""
_HEAD_SHARE = 0.45
"""Of the pieces: how many show the head, where the finest lines are."""


def make_picture(seed: int) -> tuple[Character, Shot]:
    """Who is in the picture of a seed, and how."""
    rng = random.Random(seed)
    return make_character(rng), make_shot(rng)


def draw_whole(seed: int, canvas: int = CANVAS) -> Entry:
    """The picture of a seed: `canvases` (canvas, canvas, 3) and, four times as large, `truths`, 8 bits;
    `heads` (2,) is where the nose is, or what is seen instead, in fractions of the sides."""
    character, shot = make_picture(seed)
    small = draw(character, shot, canvas, canvas)
    large = draw(character, shot, CELL * canvas, CELL * canvas)
    seen = small.skeleton[small.skeleton[:, 2] > 0, :2] / canvas
    head = seen[0] if len(seen) else numpy.array((0.5, 0.5))
    return {"canvases": small.picture, "truths": large.picture, "heads": head}


def draw_crop(
    seed: int,
    side: int,
    patch: int = 16,
    canvas: int = CANVAS,
    picture_seeds: Sequence[int] | None = None,
) -> Entry:
    """A picture and a piece of it that shows some of the figure.

    Args:
        seed: chooses the picture and the piece.
        side: of the piece, in pixels of the canvas.
        patch: the piece begins at multiples of so many pixels.
        canvas: pixels of a side of the canvas.
        picture_seeds: the picture's seed is one of these.

    Returns:
        `canvases` (canvas, canvas, 3) and `truths` (4 side, 4 side, 3) of 8 bits; `places` (2,): the
        piece's first row and column in patches; `rows` (): the picture's place in `picture_seeds`.
    """
    row = 0 if picture_seeds is None else seed % len(picture_seeds)
    character, shot = make_picture(seed if picture_seeds is None else picture_seeds[row])
    small = draw(character, shot, canvas, canvas)
    place = _choose_place(random.Random(f"piece {seed}"), small.skeleton, side, patch, canvas)
    top, left = (CELL * patch * number for number in place)
    window = (left, top, CELL * side, CELL * side)
    large = draw(character, shot, CELL * canvas, CELL * canvas, window=window)
    return {
        "canvases": small.picture,
        "truths": large.picture,
        "places": numpy.array(place, numpy.int64),
        "rows": numpy.array(row, numpy.int64),
    }


def stack_entries(entries: Sequence[Entry]) -> Entry:
    """Entries as a batch: each array stacked along a new first axis."""
    return {name: numpy.stack([entry[name] for entry in entries]) for name in entries[0]}


def _choose_place(
    rng: random.Random, skeleton: numpy.ndarray, side: int, patch: int, canvas: int
) -> tuple[int, int]:
    """The row and column, in patches, of a piece about a keypoint that is seen."""
    seen = skeleton[skeleton[:, 2] > 0]
    if not len(seen):
        x, y = rng.uniform(0, canvas), rng.uniform(0, canvas)
    else:
        x, y, _ = seen[0] if rng.random() < _HEAD_SHARE else seen[rng.randrange(len(seen))]
    most = (canvas - side) // patch

    def begin(middle: float) -> int:
        wanted = (middle - side / 2 + rng.uniform(-side / 4, side / 4)) / patch
        return min(most, max(0, round(wanted)))

    row = begin(y)
    return row, begin(x)
