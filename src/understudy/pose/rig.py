"""The rig that named poses are made with: joint angles in, 18 keypoints out.

A small three-dimensional figure with the proportions of a cartoon character (a large head, short
limbs), seen by a camera that looks slightly down. Lengths are in fractions of the figure's height.
Axes: x to the right of the picture, y up, z towards the viewer. The body's right is at the left.
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

HEAD_RADIUS, NECK, TORSO = 0.123, 0.031, 0.24
UPPER_ARM, FOREARM, THIGH, SHIN = 0.115, 0.108, 0.175, 0.17
SHOULDER_WIDTH, HIP_WIDTH = 0.086, 0.05
"""Half of the distance between the shoulders, and between the hips."""

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


def pose_rig(rig: Rig) -> Skeleton:
    """The 18 keypoints of a rig as the camera sees them, y downwards, the pelvis at the origin."""
    joints = _place_joints(rig)
    seen = dict.fromkeys(joints, True)
    for name, (point, is_seen) in _place_face(rig, joints["head"]).items():
        joints[name], seen[name] = point, is_seen
    keypoints = np.zeros((18, 3))
    pitch, tip = np.radians(CAMERA_PITCH), np.radians(rig.tip)
    for row, name in zip(keypoints, KEYPOINT_NAMES, strict=True):
        if seen[name] and name not in rig.hidden:
            x, y, z = joints[name]
            down = -(y * np.cos(pitch) - z * np.sin(pitch))
            row[:] = (
                x * np.cos(tip) - down * np.sin(tip),
                x * np.sin(tip) + down * np.cos(tip),
                1.0,
            )
    return keypoints


def _place_joints(rig: Rig) -> dict[str, Vector]:
    hips_turned = _turn_y(rig.yaw)
    shoulders_turned = _turn_y(rig.yaw + rig.twist)
    spine = _turn_z(-rig.lean) @ hips_turned @ _turn_x(rig.bend) @ (0.0, 1.0, 0.0)
    neck_bend = rig.bend / 2 if rig.neck_bend is None else rig.neck_bend
    upwards = _turn_z(-rig.lean) @ hips_turned @ _turn_x(neck_bend) @ (0.0, 1.0, 0.0)
    joints = {"pelvis": np.zeros(3), "neck": spine * TORSO}
    joints["head"] = joints["neck"] + upwards * (NECK + 0.95 * HEAD_RADIUS)
    lean = _turn_z(-rig.lean)
    for side, sign in (("right", -1), ("left", 1)):
        across = lean @ shoulders_turned @ _turn_z(rig.shoulder_tilt) @ (sign, 0.0, 0.0)
        joints[f"{side}_shoulder"] = joints["neck"] + across * SHOULDER_WIDTH - spine * 0.012
        joints[f"{side}_hip"] = (hips_turned @ _turn_z(rig.hip_tilt) @ (sign, 0.0, 0.0)) * HIP_WIDTH
    for side, sign in (("right", -1), ("left", 1)):
        for limb, lengths, names, turned in (
            (getattr(rig, f"{side}_leg"), (THIGH, SHIN), ("hip", "knee", "ankle"), hips_turned),
            (
                getattr(rig, f"{side}_arm"),
                (UPPER_ARM, FOREARM),
                ("shoulder", "elbow", "wrist"),
                shoulders_turned,
            ),
        ):
            root, middle, end = (f"{side}_{name}" for name in names)
            if isinstance(limb, Reach):
                anchor = limb.anchor.replace("own", side)
                target = joints[anchor] + turned @ (sign * limb.out, limb.up, limb.forward)
                hint = turned @ _direction(limb.elbow, sign)
                joints[middle], joints[end] = _bend_to(joints[root], target, lengths, hint)
            else:
                joints[middle] = joints[root] + turned @ _direction(limb[0], sign) * lengths[0]
                joints[end] = joints[middle] + turned @ _direction(limb[1], sign) * lengths[1]
    return joints


def _place_face(rig: Rig, head: Vector) -> dict[str, tuple[Vector, bool]]:
    look = 0.85 * rig.yaw if rig.look is None else rig.look
    turned = _turn_z(-rig.tilt - 0.7 * rig.lean) @ _turn_y(look) @ _turn_x(-rig.nod)
    face = {}
    for name, (around, distance, height) in _FACE.items():
        angle = np.radians(around)
        offset = turned @ (distance * np.sin(angle), height, distance * np.cos(angle))
        # The camera's pitch would push the face down the head; drawn faces look at the viewer.
        offset = _turn_x(-CAMERA_PITCH) @ offset
        face[name] = head + offset * HEAD_RADIUS, bool(offset[2] > _SEEN_FROM[name.split("_")[-1]])
    return face


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


def _turn_x(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _turn_y(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _turn_z(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
