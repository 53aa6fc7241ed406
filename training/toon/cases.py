"""Held-out cases: what a model is asked to draw in an evaluation, and what is known of the answer.

A case is a character that no training saw, in a pose of a family that no training saw. Its seed is
words; those of trainings are numbers, so none draws the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from PIL import Image

from .captions import write_caption, write_change
from .character import Character, change_character, make_character
from .poses import HELD_OUT_FAMILIES, make_pose
from .renderer import Framing, Shot, draw, make_shot
from .samples import name_scene
from .wording import EXPRESSION_WORDS, SCENE_WORDS

SIDE = 1024
"""Side of the pictures that are asked for, in pixels."""
LINEUP, ALIKE = 50, 20
"""Pictures of a lineup, and how many of them differ from the character in one attribute only."""

_PLAIN_FAMILIES = ("stand", "contrapposto", "hands_on_hips", "wave", "walk")
"""How references stand: so that they show the whole character."""
_SMALL_SIDE = 192
_LEAST_PIXELS, _LEAST_DIFFERENCE = 15, 32
"""Two drawings are told apart by so many pixels of 192 x 192 that differ so much, of 255."""
_MOST_TRIES = 400


@dataclass(frozen=True)
class Case:
    """A character, the shot that is asked for, and the shots of its reference and of its lineup.

    `prompt` tells all of it, the character's face and the scene included. `order` asks for
    `changed`, the same character but for `attribute`.
    """

    number: int
    character: Character
    shot: Shot
    reference_shot: Shot
    lineup_shot: Shot
    prompt: str
    changed: Character
    attribute: str
    order: str

    @property
    def seed(self) -> int:
        """The seed of what is drawn for it."""
        return self.number

    def draw_reference(self) -> Image.Image:
        """The picture that a model is given of the character."""
        return Image.fromarray(draw(self.character, self.reference_shot, SIDE, SIDE).picture)

    def draw_truth(self, *, changed: bool = False) -> Image.Image:
        """What would be the right answer, the order followed or not."""
        character = self.changed if changed else self.character
        return Image.fromarray(draw(character, self.shot, SIDE, SIDE).picture)


def make_case(number: int) -> Case:
    """The case of a number from 0 on; each ten cases have the ten held-out families."""
    rng = random.Random(f"held-out case {number}")
    character = make_character(rng)
    shot = make_shot(rng, make_pose(rng, (HELD_OUT_FAMILIES[number % len(HELD_OUT_FAMILIES)],)))
    told = (
        write_caption(character),
        EXPRESSION_WORDS[shot.expression][0],
        SCENE_WORDS[name_scene(shot.scene)][0],
    )
    shown = _draw_small(character, shot)
    changed, attribute = _change(character, rng, lambda other: differ(shown, _draw_small(other, shot)))
    return Case(
        number=number,
        character=character,
        shot=shot,
        reference_shot=_make_plain_shot(rng),
        lineup_shot=_make_plain_shot(rng),
        prompt=", ".join(told),
        changed=changed,
        attribute=attribute,
        order=write_change(character, changed, attribute, rng),
    )


def draw_lineup(case: Case, count: int = LINEUP, alike: int = ALIKE) -> NDArray[numpy.uint8]:
    """Pictures (count, 192, 192, 3) among which the character is to be found; the first is its own.

    All are drawn in one shot, which is neither that of the reference nor that which is asked for.
    Of the others `alike` differ from it in one attribute, no two in the same way; in both shots the
    difference can be seen.
    """
    rng = random.Random(f"held-out lineup {case.number}")
    asked_for = _draw_small(case.character, case.shot)
    own = _draw_small(case.character, case.lineup_shot)
    lineup, known = [own], set()
    for _ in range(_MOST_TRIES):
        if len(lineup) > alike:
            break
        changed, attribute = change_character(case.character, rng)
        way = (attribute, getattr(changed, attribute))
        picture = _draw_small(changed, case.lineup_shot)
        if way not in known and differ(own, picture) and differ(asked_for, _draw_small(changed, case.shot)):
            known.add(way)
            lineup.append(picture)
    strangers = count - len(lineup)
    lineup += [_draw_small(make_character(rng), case.lineup_shot) for _ in range(strangers)]
    return numpy.stack(lineup)


def draw_stranger(number: int) -> Image.Image:
    """A right picture of somebody who is in no case, in a pose of the held-out families."""
    rng = random.Random(f"held-out stranger {number}")
    family = HELD_OUT_FAMILIES[number % len(HELD_OUT_FAMILIES)]
    return Image.fromarray(
        draw(make_character(rng), make_shot(rng, make_pose(rng, (family,))), SIDE, SIDE).picture
    )


def differ(first: NDArray[numpy.uint8], second: NDArray[numpy.uint8]) -> bool:
    """Whether two drawings of 192 x 192 can be told apart."""
    difference = numpy.abs(first.astype(numpy.int16) - second).max(axis=2)
    return int((difference > _LEAST_DIFFERENCE).sum()) >= _LEAST_PIXELS


def _change(
    character: Character, rng: random.Random, shows: Callable[[Character], bool]
) -> tuple[Character, str]:
    """A change of the character that shows, where one of many does."""
    for _ in range(_MOST_TRIES):
        changed, attribute = change_character(character, rng)
        if shows(changed):
            break
    return changed, attribute


def _make_plain_shot(rng: random.Random) -> Shot:
    """A shot that shows the whole character, from the front or turned a little."""
    pose = make_pose(rng, _PLAIN_FAMILIES)
    while pose.view not in ("front", "three-quarter"):
        pose = make_pose(rng, _PLAIN_FAMILIES)
    return make_shot(rng, pose, framing=Framing("whole"))


def _draw_small(character: Character, shot: Shot) -> NDArray[numpy.uint8]:
    return draw(character, shot, _SMALL_SIDE, _SMALL_SIDE).picture
