"""Held-out cases: what a model is asked to draw in an evaluation, and what is known of the answer.

A case is a character that no training saw, in a pose of a family that no training saw. Its seed is
words; those of trainings are numbers, so none draws the same. The held-out families are those that
errors were looked at for while the model was trained: no weight learned from them, but choices may have.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from PIL import Image

from understudy.pose.skeleton import Skeleton

from .captions import write_caption, write_change
from .character import Character, change_character, make_character
from .poses import HELD_OUT_FAMILIES, make_pose
from .renderer import Framing, Shot, draw, make_shot
from .samples import name_scene
from .wording import EXPRESSION_WORDS, POSE_WORDS, SCENE_WORDS

SIDE = 1024
"""Side of the pictures that are asked for, in pixels."""
CROWD, ALIKE = 50, 20
"""Pictures of a crowd, and how many of them differ from the character in one attribute only."""

_PLAIN_FAMILIES = ("stand", "contrapposto", "hands_on_hips", "wave", "walk")
"""How references stand: so that they show the whole character."""
_SMALL_SIDE = 192
_LEAST_PIXELS, _LEAST_DIFFERENCE = 15, 32
"""Two drawings are told apart by so many pixels of 192 x 192 that differ so much, of 255."""
_MOST_TRIES = 2000


@dataclass(frozen=True)
class Case:
    """A character, the shot that is asked for, and the shots of its two references and of its crowd.

    `direction` tells pose, face and scene, and nothing of the character: what somebody writes who has
    a picture of it. `prompt` tells the whole character, its face and the scene. `order` asks for
    `changed`, the same character but for `attribute`.
    """

    number: int
    character: Character
    shot: Shot
    reference_shots: tuple[Shot, Shot]
    crowd_shot: Shot
    direction: str
    prompt: str
    changed: Character
    attribute: str
    order: str

    def draw_reference(self, number: int = 0) -> Image.Image:
        """A picture that a model is given of the character, the first or the second."""
        return Image.fromarray(draw(self.character, self.reference_shots[number], SIDE, SIDE).picture)

    def draw_truth(self, *, changed: bool = False) -> Image.Image:
        """What would be the right answer, the order followed or not."""
        character = self.changed if changed else self.character
        return Image.fromarray(draw(character, self.shot, SIDE, SIDE).picture)


def make_case(number: int) -> Case:
    """The case of a number from 0 on; each ten cases have the ten held-out families."""
    rng = random.Random(f"held-out case {number}")
    character = make_character(rng)
    family = HELD_OUT_FAMILIES[number % len(HELD_OUT_FAMILIES)]
    change = None
    while change is None:
        shot = make_shot(rng, make_pose(rng, (family,)))
        change = _find_change(character, shot, rng)
    changed, attribute = change
    face, scene = EXPRESSION_WORDS[shot.expression][0], SCENE_WORDS[name_scene(shot.scene)][0]
    first, second, crowd = (_make_plain_shot(rng) for _ in range(3))
    return Case(
        number=number,
        character=character,
        shot=shot,
        reference_shots=(first, second),
        crowd_shot=crowd,
        direction=", ".join((POSE_WORDS[family][0], face, scene)),
        prompt=", ".join((write_caption(character), face, scene)),
        changed=changed,
        attribute=attribute,
        order=write_change(character, changed, attribute, rng),
    )


def draw_crowd(case: Case, count: int = CROWD, alike: int = ALIKE) -> NDArray[numpy.uint8]:
    """Pictures (count, 192, 192, 3) among which the character is to be found; the first is its own.

    All are drawn in one shot, which is neither that of a reference nor that which is asked for. The
    next `alike` differ from it in one attribute, no two in the same way; in both shots the
    difference can be seen. The others are strangers.

    Raises:
        ValueError: the character cannot be changed in so many ways that show.
    """
    rng = random.Random(f"held-out crowd {case.number}")
    asked_for = _draw_small(case.character, case.shot)
    own = _draw_small(case.character, case.crowd_shot)
    crowd, known = [own], set()
    for _ in range(_MOST_TRIES):
        if len(crowd) > alike:
            break
        changed, attribute = change_character(case.character, rng)
        way = (attribute, getattr(changed, attribute))
        if way in known:
            continue
        picture = _draw_small(changed, case.crowd_shot)
        if differ(own, picture) and differ(asked_for, _draw_small(changed, case.shot)):
            known.add(way)
            crowd.append(picture)
    else:
        raise ValueError(f"the character of case {case.number} has fewer than {alike} others like it")
    crowd += [_draw_small(make_character(rng), case.crowd_shot) for _ in range(count - len(crowd))]
    return numpy.stack(crowd)


def draw_stranger(number: int) -> tuple[Image.Image, Skeleton]:
    """A right picture of somebody who is in no case, in a pose of the held-out families."""
    rng = random.Random(f"held-out stranger {number}")
    family = HELD_OUT_FAMILIES[number % len(HELD_OUT_FAMILIES)]
    drawing = draw(make_character(rng), make_shot(rng, make_pose(rng, (family,))), SIDE, SIDE)
    return Image.fromarray(drawing.picture), drawing.skeleton


def differ(first: NDArray[numpy.uint8], second: NDArray[numpy.uint8]) -> bool:
    """Whether two drawings of 192 x 192 can be told apart."""
    difference = numpy.abs(first.astype(numpy.int16) - second).max(axis=2)
    return int((difference > _LEAST_DIFFERENCE).sum()) >= _LEAST_PIXELS


def _find_change(character: Character, shot: Shot, rng: random.Random) -> tuple[Character, str] | None:
    """A change of the character that shows in the shot; None where none of many does."""
    shown = _draw_small(character, shot)
    for _ in range(_MOST_TRIES):
        changed, attribute = change_character(character, rng)
        if differ(shown, _draw_small(changed, shot)):
            return changed, attribute
    return None


def _make_plain_shot(rng: random.Random) -> Shot:
    """A shot that shows the whole character, from the front or turned a little."""
    pose = make_pose(rng, _PLAIN_FAMILIES)
    while pose.view not in ("front", "three-quarter"):
        pose = make_pose(rng, _PLAIN_FAMILIES)
    return make_shot(rng, pose, framing=Framing("whole"))


def _draw_small(character: Character, shot: Shot) -> NDArray[numpy.uint8]:
    return draw(character, shot, _SMALL_SIDE, _SMALL_SIDE).picture
