"""Heads: everything about them shows, from every side, and where the skeleton says that it is."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import skia
from numpy.typing import NDArray
from training.toon.character import (
    BEARDS,
    COLOURED,
    EXPRESSIONS,
    FACES,
    GLASSES,
    HAIR_STYLES,
    HATS,
    Character,
    jitter_colour,
    make_character,
)
from training.toon.head import Look, draw_head, draw_head_behind
from training.toon.ink import Ink, Part

from understudy.pose.rig import CARTOON, Rig, place_camera, place_face

SIZE, RADIUS = 160, 40.0


def make_person(**attributes: str) -> Character:
    plain = {"person": "man", "hair": "bald", "beard": "", "glasses": "", "hat": "", "eye_size": "large"}
    character = replace(make_character(random.Random(4)), **(plain | attributes))
    rng = random.Random(5)
    return replace(character, colours={key: jitter_colour(character, key, rng) for key in COLOURED})


def draw(
    character: Character, expression: str = "neutral", *, parts: bool = False, **turn: float
) -> NDArray[np.uint8]:
    surface = skia.Surface(SIZE, SIZE)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorBLACK if parts else skia.ColorWHITE)
    ink = Ink(canvas, 1.3, parts=parts)
    look = Look(SIZE / 2, SIZE / 2, RADIUS, **turn)
    draw_head_behind(ink, character, look)
    draw_head(ink, character, look, expression)
    picture = surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3]
    return picture[..., 0] if parts else picture


def find_face(yaw: float, nod: float, roll: float) -> dict[str, tuple[float, float, bool]]:
    """Where the rig has the points of a face in the test's pictures, and whether they are seen."""
    rig = Rig(look=yaw, nod=nod, tilt=roll)
    found = {}
    for name, (point, seen) in place_face(rig, np.zeros(3)).items():
        x, y, _ = place_camera(rig) @ point / CARTOON.head_radius * RADIUS + SIZE / 2
        found[name] = (float(x), float(y), seen)
    return found


def share_changed(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float((np.abs(first.astype(int) - second).max(axis=-1) > 24).mean())


@pytest.mark.parametrize("yaw", [0, 45, -90, 180])
def test_each_hair_style_looks_like_no_other(yaw: float) -> None:
    drawn = {hair: draw(make_person(hair=hair), yaw=yaw) for hair in HAIR_STYLES}
    for index, first in enumerate(HAIR_STYLES):
        for second in HAIR_STYLES[index + 1 :]:
            # From behind, a parting is hardly seen.
            least = 0.001 if (first, second) == ("short", "side-parted") else 0.004
            assert share_changed(drawn[first], drawn[second]) > least, (first, second)


@pytest.mark.parametrize("yaw", [0, 60])
@pytest.mark.parametrize(
    ("attribute", "values"), [("beard", BEARDS), ("glasses", GLASSES), ("hat", HATS), ("face", FACES)]
)
def test_each_beard_glasses_hat_and_face_shows(attribute: str, values: tuple[str, ...], yaw: float) -> None:
    drawn = [draw(make_person(hair="short", **{attribute: value}), yaw=yaw) for value in values]
    for index, first in enumerate(drawn):
        for second in drawn[index + 1 :]:
            assert share_changed(first, second) > 0.004


@pytest.mark.parametrize("yaw", [0, -50, 90])
def test_each_expression_shows(yaw: float) -> None:
    drawn = [draw(make_person(), expression, yaw=yaw) for expression in EXPRESSIONS]
    for index, first in enumerate(drawn):
        for second in drawn[index + 1 :]:
            assert share_changed(first, second) > 0.004


@pytest.mark.parametrize("hair", HAIR_STYLES)
def test_the_back_of_a_head_shows_no_face(hair: str) -> None:
    seen = draw(make_person(hair=hair, beard="moustache", glasses="glasses"), "happy", parts=True, yaw=180)
    assert not np.isin(seen, [Part.EYES, Part.MOUTH, Part.BEARD, Part.GLASSES]).any()
    assert (seen == Part.HAIR).any() == (hair != "bald")


@pytest.mark.parametrize(
    "hair", [hair for hair in HAIR_STYLES if hair not in ("afro", "mohawk", "bun", "spiky")]
)
@pytest.mark.parametrize("hat", HATS[1:])
def test_hair_stays_below_a_hat_and_leaves_the_eyes_free(hair: str, hat: str) -> None:
    for yaw in (0, 120):
        seen = draw(make_person(hair=hair, hat=hat), parts=True, yaw=yaw)
        top = np.argwhere(seen == Part.HAT)[:, 0].min()
        worn = np.argwhere(seen == Part.HAIR)
        # A headband is worn in the hair.
        assert hat == "headband" or not len(worn) or worn[:, 0].min() > top
    eyes = draw(make_person(hair=hair, hat=hat), parts=True) == Part.EYES
    bare = draw(make_person(), parts=True) == Part.EYES
    assert eyes.sum() > 0.97 * bare.sum()


@pytest.mark.parametrize("hair", HAIR_STYLES)
@pytest.mark.parametrize("yaw", [-45, 0, 45])
def test_hair_covers_no_eye(hair: str, yaw: float) -> None:
    eyes = draw(make_person(hair=hair), parts=True, yaw=yaw) == Part.EYES
    bare = draw(make_person(), parts=True, yaw=yaw) == Part.EYES
    assert eyes.sum() > 0.95 * bare.sum()


@pytest.mark.parametrize(
    ("yaw", "nod", "roll"),
    [(0, 0, 0), (20, 10, 0), (-45, 0, 0), (45, -15, 20), (60, 0, -30), (-90, 0, 0), (90, 20, 0), (0, 0, 180)],
)
def test_eyes_and_nose_lie_where_the_rig_has_them(yaw: float, nod: float, roll: float) -> None:
    face = find_face(yaw, nod, roll)
    seen = draw(make_person(), parts=True, yaw=yaw, nod=nod, roll=roll)
    eyes = [(x, y) for name, (x, y, is_seen) in face.items() if name.endswith("eye") and is_seen]
    assert eyes
    for x, y in eyes:
        assert seen[round(y), round(x)] == Part.EYES
    rows, columns = np.nonzero(seen == Part.EYES)
    away = [np.hypot(columns - x, rows - y) for x, y in eyes]
    assert np.min(away, axis=0).max() < 0.36 * RADIUS
    x, y, _ = face["nose"]
    assert seen[round(y), round(x)] == Part.SKIN


@pytest.mark.parametrize("yaw", [0, 30, -60, 90, 135, 180])
def test_ears_lie_where_the_rig_has_them(yaw: float) -> None:
    seen = draw(make_person(), parts=True, yaw=yaw)
    for name, (x, y, is_seen) in find_face(yaw, 0, 0).items():
        if name.endswith("ear") and is_seen:
            assert seen[round(y), round(x)] == Part.SKIN


def test_heads_are_the_same_at_every_size() -> None:
    character = make_person(hair="wavy", beard="beard", glasses="round glasses")
    small, large = skia.Surface(100, 100), skia.Surface(400, 400)
    for surface, scale in ((small, 1), (large, 4)):
        surface.getCanvas().clear(skia.ColorWHITE)
        ink = Ink(surface.getCanvas(), 1.0 * scale)
        draw_head(ink, character, Look(50 * scale, 50 * scale, 28 * scale, yaw=30, nod=5, roll=10), "happy")
    coarse = small.makeImageSnapshot().toarray()[..., :3].astype(float)
    fine = large.makeImageSnapshot().toarray()[..., :3].astype(float)
    shrunk = fine.reshape(100, 4, 100, 4, 3).mean(axis=(1, 3))
    assert np.abs(coarse - shrunk).mean() < 3


def test_turning_by_a_degree_changes_little() -> None:
    character = make_person(hair="long wavy", glasses="glasses", beard="beard")
    changes = [
        share_changed(draw(character, "happy", yaw=yaw), draw(character, "happy", yaw=yaw + 1))
        for yaw in range(-180, 180, 5)
    ]
    assert max(changes) < 0.06


def test_quirks_tell_characters_apart_and_a_head_is_drawn_the_same_again() -> None:
    character = make_person(hair="short", person="young man")
    twin = replace(character, quirks=tuple(1 - quirk for quirk in character.quirks))
    assert share_changed(draw(character), draw(twin)) > 0.004
    assert (draw(character, "sad", yaw=33) == draw(character, "sad", yaw=33)).all()
