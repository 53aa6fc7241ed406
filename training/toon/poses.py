"""The poses that characters are drawn in: the named rigs in families, varied without end.

A family holds the named poses that are one pose to the eye: mirror images, other views, near
duplicates. What training never sees is held out by family, so that no twin of it slips in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from understudy.pose.rig import Angles, Limb, Reach, Rig
from understudy.pose.table import ENTRIES

VIEWS = ("front", "three-quarter", "side", "back")


@dataclass(frozen=True)
class Pose:
    """A rig, and the family that it comes from (`free` for none)."""

    family: str
    rig: Rig

    @property
    def view(self) -> str:
        """From where the body is seen: one of `VIEWS`."""
        yaw = abs(_wrap(self.rig.yaw))
        return "front" if yaw < 20 else "three-quarter" if yaw < 60 else "side" if yaw < 115 else "back"


@dataclass(frozen=True)
class Family:
    """Named poses that count as one.

    `weight` is how often it is drawn, beside the others. `own_view` is the share of its poses
    that keep about the view of the named rig; the others are seen from anywhere.
    """

    names: tuple[str, ...]
    weight: float = 1.0
    own_view: float = 0.0


FAMILIES = {
    "stand": Family(
        (
            "stand", "attention", "three_quarter_right", "side_right", "back_view", "look_up", "look_down",
            "three_quarter_left", "side_left",
        ),
        7,
    ),
    "contrapposto": Family(("contrapposto",), 1.5),
    "t_pose": Family(("t_pose", "a_pose"), 1.2),
    "hands_on_hips": Family(("hands_on_hips", "hero"), 2),
    "arms_crossed": Family(("arms_crossed",), 1.5),
    "lean_on_wall": Family(("lean_on_wall",), 0.7, 0.8),
    "hands_behind_back": Family(("hands_behind_back",), 0.7),
    "wave": Family(("wave", "wave_both"), 3),
    "point": Family(("point", "point_forward", "stop"), 2.5),
    "point_up": Family(("point_up",)),
    "think": Family(("think",)),
    "shrug": Family(("shrug",)),
    "salute": Family(("salute",)),
    "facepalm": Family(("facepalm",), 0.7),
    "clap": Family(("clap", "pray"),),
    "hug": Family(("hug",)),
    "thumbs_up": Family(("thumbs_up",)),
    "hand_on_heart": Family(("hand_on_heart",), 0.7),
    "listen": Family(("listen",), 0.7),
    "shy": Family(("shy",), 0.8),
    "arms_up": Family(("arms_up", "victory"), 2),
    "cheer": Family(("cheer",), 1.2),
    "flex": Family(("flex",), 0.8),
    "walk": Family(
        ("walk", "walk_forward", "back_three_quarter", "look_back", "walk_left"), 5, 0.35
    ),
    "run": Family(("run", "sprint", "run_left"), 4, 0.5),
    "sneak": Family(("sneak",), 0.8, 0.5),
    "march": Family(("march",), 1, 0.5),
    "skip": Family(("skip",), 1, 0.5),
    "climb": Family(("climb",), 1, 1),
    "balance": Family(("balance",), 0.8),
    "jump": Family(("jump",), 2),
    "star_jump": Family(("star_jump",), 1, 0.4),
    "leap": Family(("leap",), 1, 0.6),
    "fly": Family(("fly",), 0.6, 1),
    "fall": Family(("fall",), 0.6, 1),
    "kick": Family(("kick",), 1, 0.5),
    "punch": Family(("punch",), 1, 0.5),
    "guard": Family(("guard",), 0.8, 0.3),
    "lunge": Family(("lunge",), 0.8, 0.6),
    "throw": Family(("throw",), 0.8, 0.4),
    "catch": Family(("catch",), 0.8, 0.3),
    "carry": Family(("carry",), 0.8, 0.3),
    "push": Family(("push",), 0.8, 0.7),
    "pull": Family(("pull",), 0.8, 0.7),
    "swing_sword": Family(("swing_sword",), 0.6, 0.4),
    "draw_bow": Family(("draw_bow",), 0.6, 0.5),
    "dance": Family(("dance", "disco"), 2),
    "ballet": Family(("ballet",), 0.7, 0.6),
    "twirl": Family(("twirl",), 0.7, 0.3),
    "bow": Family(("bow",), 0.7, 0.9),
    "stretch": Family(("stretch",), 0.7),
    "yoga_tree": Family(("yoga_tree",), 0.7),
    "squat": Family(("squat",), 0.9, 0.6),
    "cartwheel": Family(("cartwheel",), 0.5, 1),
    "sit": Family(("sit", "sit_side", "sit_front", "read"), 4, 0.7),
    "sit_cross_legged": Family(("sit_cross_legged",), 1, 0.8),
    "sit_floor": Family(("sit_floor",), 0.8, 0.8),
    "hug_knees": Family(("hug_knees",), 0.6, 0.9),
    "kneel": Family(("kneel",), 1, 0.7),
    "propose": Family(("propose",), 0.8, 0.7),
    "crouch": Family(("crouch",), 0.8, 0.9),
    "crawl": Family(("crawl",), 0.6, 1),
    "push_up": Family(("push_up",), 0.6, 1),
    "lie": Family(("lie", "sleep"), 0.7, 1),
}  # fmt: skip
"""Every named pose is in one family."""

HELD_OUT_FAMILIES = (
    "salute", "climb", "leap", "throw", "push", "draw_bow", "ballet", "stretch", "yoga_tree", "propose",
)  # fmt: skip
"""Families that training never sees: what a model makes of them shows whether it follows a pose
or knows it by heart."""

TRAINING_FAMILIES = (*(name for name in FAMILIES if name not in HELD_OUT_FAMILIES), "free")
"""What training draws. `free` poses have limbs at random, some borrowed from trained families."""

_FREE_WEIGHT = 14
_RIGS = {entry.name: entry.rig for entry in ENTRIES if entry.rig is not None}
_LIMBS = ("right_arm", "left_arm", "right_leg", "left_leg")
_VIEW_SHARES = (45, 30, 15, 10)
# Where the limbs of a free pose may be borrowed from: upright poses that training sees.
_LENDERS = [
    name
    for family in TRAINING_FAMILIES
    if family != "free" and FAMILIES[family].own_view < 0.6
    for name in FAMILIES[family].names
    if name in _RIGS
]
# How far, in degrees (one standard deviation), an angle is moved.
_JITTER = {
    "look": 9.0, "nod": 5.0, "tilt": 5.0, "lean": 2.5, "bend": 2.5, "twist": 5.0,
    "shoulder_tilt": 2.5, "hip_tilt": 2.0, "tip": 1.5,
}  # fmt: skip


def make_pose(rng: random.Random, families: Sequence[str] = TRAINING_FAMILIES) -> Pose:
    """A pose of one of the families at random, the common ones more often.

    Each is a named rig, or between two of its family, seen from some side, mirrored or not, with
    every angle moved a little.
    """
    weights = [_FREE_WEIGHT if name == "free" else FAMILIES[name].weight for name in families]
    name = rng.choices(families, weights)[0]
    rig = _make_free_rig(rng) if name == "free" else _choose_rig(FAMILIES[name], rng)
    rig = _jitter(rig, rng)
    return Pose(name, mirror_rig(rig) if rng.random() < 0.5 else rig)


def mirror_rig(rig: Rig) -> Rig:
    """The mirror image: left and right change places."""
    turned = {name: -getattr(rig, name) for name in ("yaw", "tilt", "lean", "twist", "tip")}
    turned |= {name: -getattr(rig, name) for name in ("shoulder_tilt", "hip_tilt")}
    sides = {"right": "left", "left": "right"}
    return replace(
        rig,
        **turned,
        look=None if rig.look is None else -rig.look,
        right_arm=rig.left_arm,
        left_arm=rig.right_arm,
        right_leg=rig.left_leg,
        left_leg=rig.right_leg,
        hidden=tuple(f"{sides[name.split('_')[0]]}_{name.split('_', 1)[1]}" for name in rig.hidden),
    )


def _choose_rig(family: Family, rng: random.Random) -> Rig:
    rigs = [_RIGS[name] for name in family.names if name in _RIGS]
    first, second = rng.choice(rigs), rng.choice(rigs)
    share = rng.uniform(0, 0.6) if rng.random() < 0.5 else 0.0
    if rng.random() < family.own_view:
        if abs(first.yaw - second.yaw) < 45:
            first = _blend(first, second, share, rng)
        turn = rng.uniform(-14, 14)
        look = 0.85 * first.yaw if first.look is None else first.look
        return replace(first, yaw=first.yaw + turn, look=look + turn)
    return _turn(_blend(_face_viewer(first), _face_viewer(second), share, rng), _choose_yaw(rng), rng)


def _choose_yaw(rng: random.Random) -> float:
    view = rng.choices(VIEWS, _VIEW_SHARES)[0]
    lowest, highest = {"front": (0, 18), "three-quarter": (22, 58), "side": (62, 110), "back": (120, 180)}[
        view
    ]
    return rng.uniform(lowest, highest) * rng.choice((-1, 1))


def _face_viewer(rig: Rig) -> Rig:
    """The same pose with the body turned to the viewer; `look` becomes relative to the body.

    `lean` and `tilt` are angles in the picture: what of them is forward for the body becomes
    `bend` and `nod`.
    """
    yaw = math.radians(rig.yaw)
    look = 0.85 * rig.yaw if rig.look is None else rig.look
    neck_bend = rig.bend / 2 if rig.neck_bend is None else rig.neck_bend
    forward, aside = rig.lean * math.sin(yaw), rig.lean * math.cos(yaw)
    roll = rig.tilt + 0.7 * rig.lean
    return replace(
        rig,
        yaw=0.0,
        look=_wrap(look - rig.yaw),
        lean=aside,
        bend=rig.bend + forward,
        neck_bend=neck_bend + forward,
        nod=rig.nod - roll * math.sin(math.radians(look)),
        tilt=roll * math.cos(math.radians(look)) - 0.7 * aside,
    )


def _turn(rig: Rig, yaw: float, rng: random.Random) -> Rig:
    """A rig of `_face_viewer` turned to `yaw`; the head turns on its own within its range."""
    turned_head = rig.look if abs(rig.look) > 20 else 0.0
    if abs(yaw) < 115:
        # Characters in pictures tend to look at the viewer.
        turned_head -= rng.uniform(0, 0.4) * yaw
    elif not turned_head and rng.random() < 0.2:
        turned_head = -math.copysign(rng.uniform(50, 78), yaw)
    look = yaw + max(-80.0, min(80.0, turned_head))
    roll = rig.tilt + 0.7 * rig.lean
    lean = rig.lean * math.cos(math.radians(yaw))
    return replace(
        rig,
        yaw=yaw,
        look=look,
        lean=lean,
        tilt=roll * math.cos(math.radians(look)) - 0.7 * lean,
        hidden=() if abs(yaw) > 60 else rig.hidden,
    )


def _blend(first: Rig, second: Rig, share: float, rng: random.Random) -> Rig:
    """The pose at `share` of the way; limbs that cannot be blended come from one of the two."""
    if share == 0 or first is second:
        return first
    values = {}
    for field in fields(Rig):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name in _LIMBS:
            values[field.name] = _blend_limbs(a, b, share, rng)
        elif isinstance(a, float | int) and isinstance(b, float | int):
            values[field.name] = a + (b - a) * share
    return replace(first, **values, hidden=())


def _blend_limbs(first: Limb, second: Limb, share: float, rng: random.Random) -> Limb:
    if isinstance(first, Reach) or isinstance(second, Reach):
        return second if rng.random() < share else first
    upper, lower = (
        _find_angles(*(a + (b - a) * share for a, b in zip(_direct(one), _direct(other), strict=True)))
        for one, other in zip(first, second, strict=True)
    )
    return upper, lower


def _jitter(rig: Rig, rng: random.Random) -> Rig:
    # Some poses stay close to the named one, others go far.
    strength = rng.uniform(0.3, 1.5)

    def move(deviation: float) -> float:
        return strength * max(-2 * deviation, min(2 * deviation, rng.gauss(0, deviation)))

    look = 0.85 * rig.yaw if rig.look is None else rig.look
    moved = {name: (look if name == "look" else getattr(rig, name)) + move(d) for name, d in _JITTER.items()}
    if rig.neck_bend is not None:
        moved["neck_bend"] = rig.neck_bend + move(3.0)
    for name in _LIMBS:
        limb = getattr(rig, name)
        if isinstance(limb, Reach):
            moved[name] = replace(
                limb,
                out=limb.out + move(0.006),
                up=limb.up + move(0.006),
                forward=limb.forward + move(0.004),
                elbow=(limb.elbow[0] + move(6.0), limb.elbow[1] + move(6.0)),
            )
            continue
        # Both bones turn together, and only a little on their own: a knee must not bend forward.
        shared, alone = (6.5, 4.5) if name.endswith("arm") else (4.5, 1.8)
        swing, around = move(shared), move(8.0)
        moved[name] = tuple((a + swing + move(alone), b + around) for a, b in limb)
    yaw = _wrap(rig.yaw + move(4.0))
    moved["look"] = _wrap(yaw + max(-92.0, min(92.0, _wrap(moved["look"] - yaw))))
    return replace(rig, **moved, yaw=yaw)


def _make_free_rig(rng: random.Random) -> Rig:
    limbs: dict[str, Limb] = {}
    lender = _RIGS[rng.choice(_LENDERS)]
    # Legs are borrowed as a pair: balance is a matter of both.
    borrowed = rng.random() < 0.5
    raised = rng.choice((None, None, "right_leg", "left_leg"))
    for name in ("right_leg", "left_leg"):
        limbs[name] = getattr(lender, name) if borrowed else _make_leg(rng, raised=name == raised)
    for name in ("right_arm", "left_arm"):
        lent = getattr(_RIGS[rng.choice(_LENDERS)], rng.choice(("right_arm", "left_arm")))
        limbs[name] = lent if rng.random() < 0.35 else _make_arm(rng)
    rig = Rig(
        look=rng.uniform(-35, 35),
        nod=rng.uniform(-12, 14),
        tilt=rng.uniform(-10, 10),
        lean=rng.uniform(-9, 9),
        bend=rng.choice((0, 0, rng.uniform(-8, 25))),
        twist=rng.uniform(-20, 20),
        shoulder_tilt=rng.uniform(-6, 6),
        hip_tilt=rng.uniform(-8, 8),
        **limbs,
    )
    return _turn(rig, _choose_yaw(rng), rng)


def _make_arm(rng: random.Random) -> Limb:
    upper = (rng.triangular(4, 172, 50), rng.triangular(-60, 110, 25))
    # An elbow bends the forearm forwards, upwards or across the body.
    ways = [(0.0, 0.0, 1.0), (0.0, 1.0, 0.3), (-0.8, 0.1, 0.6), (0.0, -1.0, 0.2)]
    return upper, _bend(upper, rng.triangular(0, 135, 25), rng.choice(ways), rng)


def _make_leg(rng: random.Random, raised: bool) -> Limb:
    if raised:
        upper = (rng.uniform(20, 95), rng.uniform(15, 92))
        return upper, _bend(upper, rng.uniform(0, 120), (0.0, -0.6, -0.8), rng)
    upper = (rng.triangular(0, 32, 8), rng.uniform(-90, 90))
    return upper, _bend(upper, rng.triangular(0, 45, 5), (0.0, 0.0, -1.0), rng)


def _bend(upper: Angles, degrees: float, way: tuple[float, float, float], rng: random.Random) -> Angles:
    """The lower bone: the upper one's direction, turned by `degrees` towards `way`."""
    along = _direct(upper)
    way = tuple(value + rng.gauss(0, 0.12) for value in way)
    inner = sum(a * b for a, b in zip(along, way, strict=True))
    aside = [b - inner * a for a, b in zip(along, way, strict=True)]
    length = math.hypot(*aside) or 1.0
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)) / length
    return _find_angles(*(cosine * a + sine * b for a, b in zip(along, aside, strict=True)))


def _direct(angles: Angles) -> tuple[float, float, float]:
    """The unit vector of a bone's angles: outwards, up, forward."""
    from_down, around = math.radians(angles[0]), math.radians(angles[1])
    return (
        math.sin(from_down) * math.cos(around),
        -math.cos(from_down),
        math.sin(from_down) * math.sin(around),
    )


def _find_angles(outward: float, up: float, forward: float) -> Angles:
    """The angles of a bone with that direction, of any length."""
    return (
        math.degrees(math.atan2(math.hypot(outward, forward), -up)),
        math.degrees(math.atan2(forward, outward)),
    )


def _wrap(degrees: float) -> float:
    return (degrees + 180) % 360 - 180
