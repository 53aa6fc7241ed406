"""A character's body in a pose: where its joints are to the camera and how its trunk is shaped.

Lengths are in thousandths of the figure's height, so that a drawing is made once and scaled. A place
is x to the right, y downwards, the pelvis at the origin, and its depth, which grows to the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from understudy.pose.rig import (
    CARTOON,
    Proportions,
    Rig,
    place_camera,
    place_joints,
    see_keypoints,
    turn_head,
    turn_x,
    turn_y,
    turn_z,
)
from understudy.pose.skeleton import Skeleton

from .character import Character
from .ink import Point

HEIGHT = 1000.0
"""The drawing's unit: the figure's height is this many."""

SIDES = ("right", "left")

Place = tuple[float, float, float]

_CHILD = Proportions(
    head_radius=0.140, neck=0.026, torso=0.195, upper_arm=0.092, forearm=0.086, thigh=0.128, shin=0.124,
    shoulder_width=0.068, hip_width=0.043,
)  # fmt: skip
_WOMAN = replace(CARTOON, torso=0.232, shoulder_width=0.077, hip_width=0.053, thigh=0.180, shin=0.174)
_MAN = replace(CARTOON, torso=0.247, shoulder_width=0.093, hip_width=0.049)
_YOUNG_WOMAN = replace(_WOMAN, head_radius=0.126)
_YOUNG_MAN = replace(_MAN, head_radius=0.126, shoulder_width=0.089)
_OLD_WOMAN = replace(_WOMAN, torso=0.222, shin=0.160, thigh=0.166, shoulder_width=0.076)
_OLD_MAN = replace(_MAN, torso=0.234, shin=0.160, thigh=0.166, shoulder_width=0.088)
_PERSONS = {
    "young man": _YOUNG_MAN, "young woman": _YOUNG_WOMAN, "boy": _CHILD, "girl": _CHILD, "man": _MAN,
    "woman": _WOMAN, "old man": _OLD_MAN, "old woman": _OLD_WOMAN,
}  # fmt: skip


def measure(character: Character) -> Proportions:
    """The lengths of a character's body."""
    sizes = _PERSONS[character.person]
    match character.build:
        case "slim":
            return replace(
                sizes, shoulder_width=sizes.shoulder_width * 0.92, hip_width=sizes.hip_width * 0.88
            )
        case "round":
            return replace(
                sizes, shoulder_width=sizes.shoulder_width * 1.06, hip_width=sizes.hip_width * 1.16
            )
        case "broad":
            return replace(sizes, shoulder_width=sizes.shoulder_width * 1.15)
    return sizes


@dataclass(frozen=True)
class Girths:
    """Half-widths of a body, in thousandths of its height."""

    neck: float
    shoulder: float
    elbow: float
    wrist: float
    hand: float
    thigh: float
    knee: float
    ankle: float
    foot: float
    chest: float
    waist: float
    hips: float
    depth: float
    """Half of the chest's depth over half of its width."""


def measure_girths(character: Character) -> Girths:
    """How thick a character's body is."""
    if character.is_child:
        girths = Girths(21, 22, 18, 15, 21, 32, 25, 21, 22, 60, 56, 57, 0.76)
    elif character.is_female:
        girths = Girths(20, 23, 19, 15, 20, 38, 28, 21, 21, 68, 54, 70, 0.72)
    else:
        girths = Girths(26, 29, 23, 18, 23, 39, 30, 24, 25, 79, 68, 67, 0.70)
    match character.build:
        case "slim":
            return _scale_girths(girths, 0.86, 0.84)
        case "round":
            wide = _scale_girths(girths, 1.16, 1.18)
            return replace(wide, waist=wide.hips * 1.1, depth=0.9)
        case "broad":
            return _scale_girths(girths, 1.12, 1.12)
    return girths


def _scale_girths(girths: Girths, limbs: float, trunk: float) -> Girths:
    return replace(
        girths,
        shoulder=girths.shoulder * limbs, elbow=girths.elbow * limbs, wrist=girths.wrist * (1 + limbs) / 2,
        thigh=girths.thigh * limbs, knee=girths.knee * limbs, ankle=girths.ankle * (1 + limbs) / 2,
        chest=girths.chest * trunk, waist=girths.waist * trunk, hips=girths.hips * trunk,
    )  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """Three directions of a part of the body, to the camera: to its left, up and forward."""

    across: Place
    up: Place
    forward: Place


class Body:
    """The joints of a character in a pose.

    `joints` has a `Place` for pelvis, neck, head and, for both sides, shoulder, elbow, wrist, hip,
    knee, ankle, toe. `skeleton` has the 18 keypoints, in the same unit.
    """

    def __init__(self, character: Character, rig: Rig) -> None:
        self.character = character
        self.rig = rig
        self.proportions = measure(character)
        self.girths = measure_girths(character)
        placed = place_joints(rig, self.proportions)
        self.skeleton: Skeleton = see_keypoints(rig, placed, self.proportions)
        self.skeleton[:, :2] *= HEIGHT
        view = place_camera(rig)
        points = np.array(list(placed.values())) @ view.T * HEIGHT
        self.joints: dict[str, Place] = dict(zip(placed, map(tuple, points.tolist()), strict=True))

        lean, bend = turn_z(-rig.lean), turn_x(rig.bend)
        self.chest = _make_frame(view @ lean @ turn_y(rig.yaw + rig.twist) @ bend @ turn_z(rig.shoulder_tilt))
        self.hips = _make_frame(view @ lean @ turn_y(rig.yaw) @ bend @ turn_z(rig.hip_tilt))
        self.ground = _make_frame(view @ turn_y(rig.yaw))
        for side in SIDES:
            self.joints[f"{side}_toe"] = self._place_toe(side)

        self.head_yaw = turn_head(rig)
        self.head_nod = rig.nod
        self.head_roll = rig.tilt + 0.7 * rig.lean + rig.tip
        self.head_radius = self.proportions.head_radius * HEIGHT

    def point(self, name: str) -> Point:
        """Where a joint is in the picture."""
        x, y, _ = self.joints[name]
        return (x, y)

    def depth(self, name: str) -> float:
        """How near to the viewer a joint is."""
        return self.joints[name][2]

    @cached_property
    def lowest(self) -> float:
        """How far down the body reaches, feet and trunk included."""
        reach = [self.joints["head"][1] + self.head_radius, self.joints["pelvis"][1] + 0.8 * self.girths.hips]
        reach += [self.joints["neck"][1] + 0.6 * self.girths.chest]
        for side in SIDES:
            ankle, toe = self.joints[f"{side}_ankle"], self.joints[f"{side}_toe"]
            reach += [ankle[1] + 28, toe[1] + 18]
            reach += [self.joints[f"{side}_wrist"][1] + 30, self.joints[f"{side}_knee"][1] + self.girths.knee]
        return max(reach)

    def _place_toe(self, side: str) -> Place:
        """The tip of the foot: square to the shin, turned a little outward, never against the knee."""
        ankle, knee = np.array(self.joints[f"{side}_ankle"]), np.array(self.joints[f"{side}_knee"])
        shin = (ankle - knee) / (np.linalg.norm(ankle - knee) + 1e-9)
        ground = self.ground
        outward = np.array(ground.across) * (1 if side == "left" else -1)
        down = -np.array(ground.up)
        ahead = np.array(ground.forward) + 0.36 * outward
        ahead /= np.linalg.norm(ahead)
        # The least turn that takes "straight down" to the shin takes the foot along.
        axis, cosine = np.cross(down, shin), float(down @ shin)
        turned = ahead * cosine + np.cross(axis, ahead) + axis * (axis @ ahead) / (1 + cosine + 1e-3)
        length = 62 if not self.character.is_child else 54
        toe = ankle + turned * length + shin * 14
        return (float(toe[0]), float(toe[1]), float(toe[2]))


def _make_frame(turned: np.ndarray) -> Frame:
    columns = turned.T.tolist()
    return Frame(*(tuple(column) for column in columns))


class Trunk:
    """The surface of a trunk: a stack of ellipses along the spine, as wide as `profile` says.

    `profile` has (height, half-width, half-depth), height 0 at the pelvis and 1 at the neck, from
    below. A place on the surface is an angle in degrees (0 the breastbone, 90 the left side) and a
    height.
    """

    def __init__(self, body: Body, profile: list[tuple[float, float, float]]) -> None:
        self.profile = profile
        self._pelvis = body.joints["pelvis"]
        neck = body.joints["neck"]
        self._spine = tuple(b - a for a, b in zip(self._pelvis, neck, strict=True))
        self._body = body
        length = math.hypot(self._spine[0], self._spine[1])
        if length > 0.35 * body.proportions.torso * HEIGHT:
            self.normal = (-self._spine[1] / length, self._spine[0] / length)
        else:
            across = body.chest.across
            size = math.hypot(across[0], across[1]) or 1.0
            self.normal = (across[0] / size, across[1] / size)
        self._levels: dict[float, tuple[Place, Place, Place, float, float]] = {}
        self._middles: dict[float, float] = {}

    def find_centre(self, height: float) -> Point:
        """The middle of the trunk at a height."""
        return (self._pelvis[0] + self._spine[0] * height, self._pelvis[1] + self._spine[1] * height)

    def find_sides(self, height: float) -> tuple[Point, Point]:
        """The outline's two points at a height: on the right of the spine's way up, and on its left."""
        centre, across, forward, width, depth = self._slice(height)
        nx, ny = self.normal
        a, b = across[0] * nx + across[1] * ny, forward[0] * nx + forward[1] * ny
        half = math.hypot(width * a, depth * b) + 1e-9
        p, q = width * width * a / half, depth * depth * b / half
        x, y = p * across[0] + q * forward[0], p * across[1] + q * forward[1]
        return (centre[0] + x, centre[1] + y), (centre[0] - x, centre[1] - y)

    def place(self, angle: float, height: float) -> Point:
        """A place on the surface; one that faces away is moved to the outline."""
        centre, across, forward, width, depth = self._slice(height)
        middle = self.find_middle(height)
        turn = (angle - middle + 180) % 360 - 180
        radians = math.radians(middle + max(-90.0, min(90.0, turn)))
        s, c = width * math.sin(radians), depth * math.cos(radians)
        return (centre[0] + s * across[0] + c * forward[0], centre[1] + s * across[1] + c * forward[1])

    def sees(self, angle: float, height: float) -> bool:
        """Whether a place on the surface faces the viewer."""
        return abs((angle - self.find_middle(height) + 180) % 360 - 180) < 88

    def find_middle(self, height: float) -> float:
        """The angle of what faces the viewer, half-way between the two sides of the outline."""
        found = self._middles.get(height)
        if found is None:
            found = self._middles[height] = self._make_middle(height)
        return found

    def _make_middle(self, height: float) -> float:
        _, across, forward, width, depth = self._slice(height)
        nx, ny = self.normal
        side = math.degrees(
            math.atan2(width * (across[0] * nx + across[1] * ny), depth * (forward[0] * nx + forward[1] * ny))
        )
        nearest = math.degrees(math.atan2(width * across[2], depth * forward[2]))
        turn = (nearest - side + 180) % 360 - 180
        return side + math.copysign(90.0, turn)

    def trace(self, angle: float, low: float, high: float) -> list[Point]:
        """A line up the surface."""
        heights = [low, *(level[0] for level in self.profile if low < level[0] < high), high]
        return [self.place(angle, height) for height in heights]

    def trace_around(self, height: float, start: float, end: float, count: int = 5) -> list[Point]:
        """A line around the surface."""
        step = (end - start) / (count - 1)
        return [self.place(start + step * index, height) for index in range(count)]

    def trace_rim(self, height: float, count: int = 5) -> list[Point]:
        """The whole line around the seen surface, between the two sides of the outline."""
        middle = self.find_middle(height)
        return self.trace_around(height, middle - 90, middle + 90, count)

    def _slice(self, height: float) -> tuple[Place, Place, Place, float, float]:
        found = self._levels.get(height)
        if found is None:
            found = self._levels[height] = self._make_slice(height)
        return found

    def _make_slice(self, height: float) -> tuple[Place, Place, Place, float, float]:
        pelvis, spine = self._pelvis, self._spine
        centre = (
            pelvis[0] + spine[0] * height, pelvis[1] + spine[1] * height, pelvis[2] + spine[2] * height,
        )  # fmt: skip
        share = max(0.0, min(1.0, height))
        hips, chest = self._body.hips, self._body.chest
        across = _blend(hips.across, chest.across, share)
        forward = _blend(hips.forward, chest.forward, share)
        profile = self.profile
        if height <= profile[0][0]:
            return centre, across, forward, profile[0][1], profile[0][2]
        for (low, width, depth), (high, wider, deeper) in pairwise(profile):
            if height <= high:
                part = (height - low) / (high - low)
                part = part * part * (3 - 2 * part)
                return (
                    centre,
                    across,
                    forward,
                    width + (wider - width) * part,
                    depth + (deeper - depth) * part,
                )
        return centre, across, forward, profile[-1][1], profile[-1][2]


def _blend(first: Place, second: Place, share: float) -> Place:
    x, y, z = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    size = math.sqrt(x * x + y * y + z * z) or 1.0
    return (x / size, y / size, z / size)
