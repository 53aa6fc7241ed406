"""Drawings that encoders and the detector learn from, single and in groups that tell characters apart.

A group is four drawings: two of a character, and two of one that differs from it in one
attribute. Each is another shot: pose, view, expression, scene, style.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from .attributes import answer_attributes, read_colours
from .character import EXPRESSIONS, Character, change_character, make_character
from .ink import Part
from .poses import TRAINING_FAMILIES, VIEWS, make_pose
from .renderer import Shot, Style, draw, draw_empty, make_shot

GROUP = 4
"""Drawings of a group."""

Arrays = dict[str, NDArray]
"""Arrays whose first axis is that of drawings:

pictures   (n, side, side, 3), 8 bits
parts      (n, side, side), the part of each pixel
skeletons  (n, 18, 3), x and y in fractions of the side
answers    (n, 26), the answers of `readers.ANSWERS`
colours    (n, 9, 3), the exact colours from -1 to 1
"""


def draw_group(seed: int, side: int) -> Arrays:
    """The group of a seed, the character's two drawings first."""
    rng = random.Random(seed)
    character = make_character(rng)
    changed, _ = change_character(character, rng)
    pairs = [(who, make_shot(rng)) for who in (character, character, changed, changed)]
    return draw_shots(pairs, side)


def draw_lineup(seed: int, side: int, others: int = 20) -> Arrays:
    """Two drawings of a character, then one each of `others` that differ from it in one attribute."""
    rng = random.Random(seed)
    character = make_character(rng)
    changed = [change_character(character, rng)[0] for _ in range(others)]
    return draw_shots([(who, make_shot(rng)) for who in (character, character, *changed)], side)


def join_arrays(several: Sequence[Arrays]) -> Arrays:
    """The drawings of all, one after another."""
    return {name: numpy.concatenate([arrays[name] for arrays in several]) for name in several[0]}


def join_groups(stacked: Arrays) -> Arrays:
    """The drawings of groups that a pool stacked along a first axis of their own."""
    return {name: array.reshape(-1, *array.shape[2:]) for name, array in stacked.items()}


def draw_shots(pairs: Sequence[tuple[Character, Shot]], side: int) -> Arrays:
    """Drawings of characters in shots, with everything that is asked of them."""
    drawn = [draw(character, shot, side, side, parts=True) for character, shot in pairs]
    answers = [
        (*answer_attributes(character), EXPRESSIONS.index(shot.expression), VIEWS.index(shot.pose.view))
        for character, shot in pairs
    ]
    return {
        "pictures": numpy.stack([drawing.picture for drawing in drawn]),
        "parts": numpy.stack([drawing.parts for drawing in drawn]),
        "skeletons": numpy.stack([drawing.skeleton / (side, side, 1) for drawing in drawn]).astype(
            numpy.float32
        ),
        "answers": numpy.array(answers, numpy.int8),
        "colours": numpy.stack([read_colours(character) for character, _ in pairs]),
    }


def draw_figure(
    seed: int, side: int, families: Sequence[str] = TRAINING_FAMILIES, *, empty_share: float = 0.0
) -> Arrays:
    """One drawing in any style, (1, ...) each: pictures, parts and skeletons as in `Arrays`.

    In `empty_share` of all seeds' drawings nobody is, and no keypoint is shown.
    """
    rng = random.Random(seed)
    style = Style(rng.uniform(2.0, 7.0), rng.random() ** 0.5, rng.random())
    shot = make_shot(rng, make_pose(rng, families), style=style)
    character = make_character(rng)
    if rng.random() < empty_share:
        return {
            "pictures": draw_empty(shot.scene, style, side, side)[None],
            "parts": numpy.full((1, side, side), Part.SCENE, numpy.uint8),
            "skeletons": numpy.zeros((1, 18, 3), numpy.float32),
        }
    drawing = draw(character, shot, side, side, parts=True)
    return {
        "pictures": drawing.picture[None],
        "parts": drawing.parts[None],
        "skeletons": (drawing.skeleton / (side, side, 1))[None].astype(numpy.float32),
    }
