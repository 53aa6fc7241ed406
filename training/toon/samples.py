"""What the denoiser learns from, as arrays: a character in a shot, shown by a reference in another.

In some samples the reference shows the character with one thing changed, and every prompt asks for
it as it is in the target: so prompts come to rule over references. Knows no torch, for a pool's
processes make samples.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from understudy.pose.drawing import StickStyle, draw_skeleton

from .attributes import NAMES, answer_attributes
from .captions import write_caption, write_change, write_negative
from .character import Character, change_character, make_character
from .poses import TRAINING_FAMILIES, make_pose
from .renderer import FRAMINGS, Framing, Shot, Style, draw, make_shot
from .scene import Scene, make_scene
from .wording import POSE_WORDS

SHAPES = {(256, 256): 0.7, (192, 320): 0.1, (320, 192): 0.08, (224, 288): 0.07, (288, 224): 0.05}
"""Widths and heights of pictures, and how often training has them."""

REFERENCE_SIDE = 192
PART_CELL = 8
"""Parts of a target are told for cells of so many pixels each way."""
CAPTIONS = 4
CAPTION_BYTES = 512
"""Room for a caption; a longer one is cut."""
CHANGED_SHARE = 0.3
UNCHANGED = -1

_PLAIN_SHARE = 0.3
_FLAT_SHARE = 0.15
_COMPRESSED_SHARE = 0.2
_REFERENCE_FRAMINGS = (0.62, 0.25, 0.13)
_BACK_VIEWS_KEPT = 0.25


def draw_sample(
    seed: int,
    *,
    width: int = 256,
    height: int = 256,
    families: Sequence[str] = TRAINING_FAMILIES,
    changed_share: float = CHANGED_SHARE,
) -> dict[str, NDArray[Any]]:
    """The sample of a seed; its target is what `crops.make_picture` gives, unless `families` are named.

    picture            (height, width, 3), the target, 8 bits
    parts              (height / 8, width / 8), the part of each cell's middle
    skeleton           (18, 3), x and y in fractions of the canvas
    skeleton_picture   (height / 2, width / 2, 3), 8 bits
    reference          (192, 192, 3), 8 bits
    reference_parts    (192, 192)
    captions           (4, 512), UTF-8, zeros after the end; the first tells everything
    negative           (512,), a negative prompt that turns away from such pictures
    reference_answers  (24,), the attributes of the character in the reference as `attributes.NAMES`
                       has them, -1 for none
    changed            which of `NAMES` the reference shows otherwise; -1: none
    """
    rng = random.Random(seed)
    target = make_character(rng)
    shot = make_shot(rng, make_pose(rng, families))
    shown, attribute = target, None
    if rng.random() < changed_share:
        shown, attribute = change_character(target, rng)
    drawing = draw(target, shot, width, height, parts=True)
    reference = draw(shown, make_reference_shot(rng), REFERENCE_SIDE, REFERENCE_SIDE, parts=True)
    captions = write_captions(target, shown, attribute, shot, rng)
    half = PART_CELL // 2
    small = draw_skeleton(drawing.skeleton * (0.5, 0.5, 1), width // 2, height // 2, StickStyle.TOON)
    return {
        "picture": drawing.picture,
        "parts": drawing.parts[half::PART_CELL, half::PART_CELL],
        "skeleton": (drawing.skeleton / (width, height, 1)).astype(np.float32),
        "skeleton_picture": np.asarray(small),
        "reference": _compress(reference.picture, rng),
        "reference_parts": reference.parts,
        "captions": np.stack([_write_bytes(caption) for caption in captions]),
        "negative": _write_bytes(write_negative(target, rng)),
        "reference_answers": answer_attributes(shown).astype(np.int8),
        "changed": np.array(UNCHANGED if attribute is None else NAMES.index(attribute), np.int8),
    }


def choose_shape(rng: np.random.Generator) -> tuple[int, int]:
    """One of the `SHAPES`, as often as each should be."""
    return list(SHAPES)[rng.choice(len(SHAPES), p=list(SHAPES.values()))]


def make_reference_shot(rng: random.Random) -> Shot:
    """A shot as references are: seldom from behind, closer at times, on white at times, flat at times."""
    pose = make_pose(rng)
    while pose.view == "back" and rng.random() > _BACK_VIEWS_KEPT:
        pose = make_pose(rng)
    kind = rng.choices(FRAMINGS, _REFERENCE_FRAMINGS)[0]
    framing = Framing(kind, rng.uniform(0.75, 0.97), rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 1))
    flat = rng.random() < _FLAT_SHARE
    style = Style(rng.uniform(3.0, 5.5), 0.0, rng.uniform(0.5, 1.0)) if flat else None
    scene = Scene("plain") if rng.random() < _PLAIN_SHARE else make_scene(rng)
    return make_shot(rng, pose, scene=scene, style=style, framing=framing)


def write_captions(
    target: Character, shown: Character, attribute: str | None, shot: Shot, rng: random.Random
) -> list[str]:
    """`CAPTIONS` prompts that ask for the target in its shot, the first one telling everything.

    Where the reference shows the character with `attribute` changed, each of them tells what it is.
    """
    captions = [write_caption(target)]
    while len(captions) < CAPTIONS:
        if attribute is None:
            captions.append(
                write_caption(
                    target,
                    rng,
                    pose=shot.pose.family,
                    expression=shot.expression,
                    view=shot.pose.view,
                    scene=name_scene(shot.scene),
                )
            )
        elif rng.random() < 0.75:
            order = write_change(shown, target, attribute, rng)
            aside = f", {rng.choice(POSE_WORDS[shot.pose.family])}" if rng.random() < 0.3 else ""
            captions.append(order + aside)
        else:
            captions.append(captions[0])
    return captions


def read_texts(texts: NDArray[np.uint8]) -> list[str]:
    """The strings of an array (n, 512) of captions or negative prompts."""
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in texts]


def name_scene(scene: Scene) -> str:
    """What `SCENE_WORDS` calls a scene."""
    return "white" if scene.kind == "plain" and min(scene.tint) > 245 else scene.kind


def _write_bytes(text: str) -> NDArray[np.uint8]:
    row = np.zeros(CAPTION_BYTES, np.uint8)
    data = np.frombuffer(text.encode()[:CAPTION_BYTES], np.uint8)
    row[: len(data)] = data
    return row


def _compress(picture: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Some pictures with the flaws of a JPEG, as uploads have them."""
    if rng.random() >= _COMPRESSED_SHARE:
        return picture
    with BytesIO() as file:
        Image.fromarray(picture).save(file, "JPEG", quality=rng.randint(35, 90))
        return np.asarray(Image.open(file).convert("RGB"))
