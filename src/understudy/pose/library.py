"""The library of named poses: find one by its name.

The poses are data (`poses.json`, made by `docs/draw_poses.py`); this file knows no single one.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from PIL import Image

from ..errors import InvalidRequest
from .drawing import draw_disc, draw_ellipse, draw_skeleton
from .skeleton import LIMBS, Skeleton, find_head, fit_skeleton, read_keypoints, visible_keypoints


@dataclass(frozen=True, eq=False)
class NamedPose:
    """A pose with a name.

    `keypoints` is (18, 3) and read-only: x and y as fractions of a square picture, confidence
    0 where a point is hidden. `fit_skeleton` brings them to any canvas.
    """

    name: str
    title: str
    category: str
    description: str
    keypoints: Skeleton


def list_poses() -> list[NamedPose]:
    """All named poses, in the order of the docs page."""
    return list(_load_poses().values())


def find_pose(name: str) -> NamedPose:
    """The pose of that name; case does not matter, and `-` or a space is as good as `_`.

    Raises:
        InvalidRequest: there is none (`invalid_parameter`, field `pose`); near names are told.
    """
    poses = _load_poses()
    wanted = "_".join(name.casefold().replace("-", " ").replace("_", " ").split())
    if wanted in poses:
        return poses[wanted]
    near = difflib.get_close_matches(wanted, poses, n=3, cutoff=0.6)
    guess = f"; did you mean {' or '.join(near)}?" if near else "."
    raise InvalidRequest(
        f"There is no pose named {name[:64]!r}{guess} `understudy poses` lists them.",
        code="invalid_parameter",
        field="pose",
    )


def find_told_pose(text: str) -> NamedPose | None:
    """The first pose that a text says somebody is doing, in English: "a man running" is `run`.

    Only the form in -ing of a name of one word is known; None where there is none.
    """
    told = _list_doings()
    words = (word.strip(".,:;!?()\"'") for word in text.casefold().split())
    return next((told[word] for word in words if word in told), None)


def draw_pose_thumbnail(pose: NamedPose, size: int = 128) -> Image.Image:
    """A small square picture of a pose, `size` pixels: the skeleton on a grey figure."""
    keypoints = fit_skeleton(pose.keypoints, size, size)
    skeleton = np.asarray(draw_skeleton(keypoints, size, size, size / 90))
    figure = _draw_figure(keypoints, size)
    return Image.fromarray(np.where(skeleton.max(axis=2, keepdims=True) > 40, skeleton, figure))


def _draw_figure(keypoints: Skeleton, size: int) -> np.ndarray:
    canvas = np.full((size, size, 3), 24, dtype=np.float32)
    visible, grey = visible_keypoints(keypoints), (74.0, 76.0, 86.0)
    for start, end in LIMBS[:12]:
        if visible[start] and visible[end]:
            # The ends lie a little beyond the joints, so that the figure has round knees.
            reach = 0.12 * (keypoints[end, :2] - keypoints[start, :2])
            draw_ellipse(canvas, keypoints[start, :2] - reach, keypoints[end, :2] + reach, size / 34, grey)
    head = find_head(keypoints)
    if head is not None:
        draw_disc(canvas, np.array(head[:2]), 0.86 * head[2], grey)
    return np.rint(canvas).astype(np.uint8)


@cache
def _list_doings() -> dict[str, NamedPose]:
    """Poses by what doing them is called: `sit` by sitting, `wave` by waving, `jump` by jumping."""
    doings = {}
    for name, pose in _load_poses().items():
        if name.isalpha():
            stem = f"{name[:-2]}y" if name.endswith("ie") else name.removesuffix("e")
            doings |= {f"{stem}ing": pose, f"{name}{name[-1]}ing": pose}
    return doings


@cache
def _load_poses() -> dict[str, NamedPose]:
    text = resources.files(__package__).joinpath("poses.json").read_text(encoding="utf-8")
    poses = {}
    for entry in json.loads(text):
        keypoints = read_keypoints(entry.pop("keypoints"))
        keypoints.setflags(write=False)
        poses[entry["name"]] = NamedPose(**entry, keypoints=keypoints)
    return poses
