"""The rig that poses are made with: joint angles in, 18 keypoints out.

A small three-dimensional figure with the proportions of a cartoon character (a large head, short
limbs), seen by a camera that looks slightly down. Lengths are in fractions of the figure's height.
Axes: x to the right of the picture, y up, z towards the viewer. The body's right is at the left.
What the camera sees has y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .skeleton import KEYPOINT_NAMES, Skeleton

Vector = NDArray[np.float64]
Angles = tuple[float, float]
"""A bone's direction in degrees: the angle from straight down, and where it leaves to: 0 outward
(to the bone's own side), 90 forward, -90 backward, 180 across the body."""

CAMERA_PITCH = 11.0
"""Degrees by which the camera looks down."""

# Degrees around the head from the nose, distance from its axis and height, in head radii.
_FACE = {
    "nose": (0, 1.02, -0.20),
    "right_eye": (-27, 0.93, 0.04),
    "left_eye": (27, 0.93, 0.04),
    "right_ear": (-90, 0.98, -0.10),
    "left_ear": (90, 0.98, -0.10),
}
# How far behind the middle of the head, in head radii, a point may lie and still be seen.
_SEEN_FROM = {"nose": -0.25, "eye": 0.1, "ear": -0.45}


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """The lengths of a figure, in fractions of its height.

    `shoulder_width` and `hip_width` are half of the distance between the two joints.
    """

    head_radius: float = 0.123
    neck: float = 0.031
    torso: float = 0.24
    upper_arm: float = 0.115
    forearm: float = 0.108
    thigh: float = 0.175
    shin: float = 0.17
    shoulder_width: float = 0.086
    hip_width: float = 0.05


CARTOON = Proportions()
"""The proportions of the named poses."""


@dataclass(frozen=True)
class Reach:
    """A hand that is put somewhere: the elbow follows.

    `anchor` is a joint (or `head`, `pelvis`); `out`, `up`, `forward` is the way from there to the
    wrist, `out` to the arm's own side. `elbow` is the direction in which the elbow points.
    """

    anchor: str
    out: float = 0.0
    up: float = 0.0
    forward: float = 0.0
    elbow: Angles = (60, 0)


Limb = tuple[Angles, Angles] | Reach

HANGING: Limb = ((14, 10), (9, 40))
STRAIGHT: Limb = ((5, 0), (3, -20))


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A pose as angles in degrees.

    yaw             where the body faces: 0 the viewer, 90 the right of the picture, 180 away
    look            where the head faces, like yaw; None: a little less than the body
    nod, tilt       the head: up (positive) or down; towards the right of the picture
    lean, bend      the torso: to the right of the picture; forward
    neck_bend       the neck, forward; None: half of `bend`
    twist           the shoulders, turned further than the hips
    shoulder_tilt   the left shoulder raised over the right one
    hip_tilt        the left hip raised over the right one
    tip             the whole figure, turned in the picture: positive falls to the right
    """

    yaw: float = 0.0
    look: float | None = None
    nod: float = 0.0
    tilt: float = 0.0
    lean: float = 0.0
    bend: float = 0.0
    neck_bend: float | None = None
    twist: float = 0.0
    shoulder_tilt: float = 0.0
    hip_tilt: float = 0.0
    tip: float = 0.0
    right_arm: Limb = HANGING
    left_arm: Limb = HANGING
    right_leg: Limb = STRAIGHT
    left_leg: Limb = STRAIGHT
    hidden: tuple[str, ...] = field(default=())


def pose_rig(rig: Rig, proportions: Proportions = CARTOON) -> Skeleton:
    """The 18 keypoints of a rig as the camera sees them, y downwards, the pelvis at the origin."""
    return see_keypoints(rig, place_joints(rig, proportions), proportions)


def see_keypoints(rig: Rig, joints: dict[str, Vector], proportions: Proportions = CARTOON) -> Skeleton:
    """The 18 keypoints of joints that `place_joints` placed."""
    points, seen = dict(joints), dict.fromkeys(joints, True)
    for name, (point, is_seen) in place_face(rig, joints["head"], proportions).items():
        points[name], seen[name] = point, is_seen
    view = place_camera(rig)
    keypoints = np.zeros((18, 3))
    for row, name in zip(keypoints, KEYPOINT_NAMES, strict=True):
        if seen[name] and name not in rig.hidden:
            row[:2] = (view @ points[name])[:2]
            row[2] = 1.0
    return keypoints


def place_camera(rig: Rig) -> NDArray[np.float64]:
    """The matrix (3, 3) that makes points of the rig points of the picture: x, y downwards, and the
    depth, which grows towards the viewer. The figure's tip is in it."""
    pitch, tip = np.radians(CAMERA_PITCH), np.radians(rig.tip)
    seen = np.array(
        [[1.0, 0.0, 0.0], [0.0, -np.cos(pitch), np.sin(pitch)], [0.0, np.sin(pitch), np.cos(pitch)]]
    )
    tipped = np.array([[np.cos(tip), -np.sin(tip), 0.0], [np.sin(tip), np.cos(tip), 0.0], [0.0, 0.0, 1.0]])
    return tipped @ seen


def place_joints(rig: Rig, proportions: Proportions = CARTOON) -> dict[str, Vector]:
    """All joints of the body, the head's middle and the pelvis (the origin), y upwards."""
    sizes = proportions
    hips_turned = turn_y(rig.yaw)
    shoulders_turned = turn_y(rig.yaw + rig.twist)
    lean = turn_z(-rig.lean)
    spine = lean @ hips_turned @ turn_x(rig.bend) @ (0.0, 1.0, 0.0)
    neck_bend = rig.bend / 2 if rig.neck_bend is None else rig.neck_bend
    upwards = lean @ hips_turned @ turn_x(neck_bend) @ (0.0, 1.0, 0.0)
    joints = {"pelvis": np.zeros(3), "neck": spine * sizes.torso}
    joints["head"] = joints["neck"] + upwards * (sizes.neck + 0.95 * sizes.head_radius)
    for side, sign in (("right", -1), ("left", 1)):
        across = lean @ shoulders_turned @ turn_z(rig.shoulder_tilt) @ (sign, 0.0, 0.0)
        joints[f"{side}_shoulder"] = joints["neck"] + across * sizes.shoulder_width - spine * 0.012
        joints[f"{side}_hip"] = (hips_turned @ turn_z(rig.hip_tilt) @ (sign, 0.0, 0.0)) * sizes.hip_width
    legs, arms = (sizes.thigh, sizes.shin), (sizes.upper_arm, sizes.forearm)
    for side, sign in (("right", -1), ("left", 1)):
        for limb, lengths, names, turned in (
            (getattr(rig, f"{side}_leg"), legs, ("hip", "knee", "ankle"), hips_turned),
            (getattr(rig, f"{side}_arm"), arms, ("shoulder", "elbow", "wrist"), shoulders_turned),
        ):
            root, middle, end = (f"{side}_{name}" for name in names)
            if isinstance(limb, Reach):
                anchor = limb.anchor.replace("own", side)
                reach = np.array((sign * limb.out, limb.up, limb.forward)) * _compare(sizes, anchor)
                hint = turned @ _direction(limb.elbow, sign)
                target = joints[anchor] + turned @ reach
                joints[middle], joints[end] = _bend_to(joints[root], target, lengths, hint)
            else:
                joints[middle] = joints[root] + turned @ _direction(limb[0], sign) * lengths[0]
                joints[end] = joints[middle] + turned @ _direction(limb[1], sign) * lengths[1]
    return joints


def place_face(rig: Rig, head: Vector, proportions: Proportions = CARTOON) -> dict[str, tuple[Vector, bool]]:
    """Nose, eyes and ears around the head's middle, y upwards, and whether each can be seen."""
    turned = turn_z(-rig.tilt - 0.7 * rig.lean) @ turn_y(turn_head(rig)) @ turn_x(-rig.nod)
    face = {}
    for name, (around, distance, height) in _FACE.items():
        angle = np.radians(around)
        offset = turned @ (distance * np.sin(angle), height, distance * np.cos(angle))
        # The camera's pitch would push the face down the head; drawn faces look at the viewer.
        offset = turn_x(-CAMERA_PITCH) @ offset
        seen = bool(offset[2] > _SEEN_FROM[name.split("_")[-1]])
        face[name] = head + offset * proportions.head_radius, seen
    return face


def turn_head(rig: Rig) -> float:
    """Where the head faces, in degrees, like `yaw`."""
    return 0.85 * rig.yaw if rig.look is None else rig.look


def _compare(proportions: Proportions, anchor: str) -> float:
    """How much larger than in a named pose a way from the anchor is."""
    if anchor == "head":
        return proportions.head_radius / CARTOON.head_radius
    return (proportions.upper_arm + proportions.forearm) / (CARTOON.upper_arm + CARTOON.forearm)


def _bend_to(
    root: Vector, target: Vector, lengths: tuple[float, float], hint: Vector
) -> tuple[Vector, Vector]:
    """Middle and end of a two-bone limb that reaches for `target`, the middle towards `hint`."""
    upper, lower = lengths
    way = target - root
    distance = np.clip(np.linalg.norm(way), abs(upper - lower) + 1e-3, 0.999 * (upper + lower))
    along = way / np.linalg.norm(way)
    aside = hint - along * (hint @ along)
    aside /= np.linalg.norm(aside)
    foot = (upper**2 - lower**2 + distance**2) / (2 * distance)
    middle = root + along * foot + aside * np.sqrt(max(upper**2 - foot**2, 0.0))
    return middle, root + along * distance


def _direction(angles: Angles, sign: int) -> Vector:
    from_down, around = np.radians(angles)
    return np.array(
        [sign * np.sin(from_down) * np.cos(around), -np.cos(from_down), np.sin(from_down) * np.sin(around)]
    )


def turn_x(degrees: float) -> NDArray[np.float64]:
    """The matrix that turns by an angle about the x axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(degrees: float) -> NDArray[np.float64]:
    """The matrix that turns by an angle about the y axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(degrees: float) -> NDArray[np.float64]:
    """The matrix that turns by an angle about the z axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
