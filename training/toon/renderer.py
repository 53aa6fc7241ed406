"""Draw a picture of a character: who, in which shot, at which size.

A figure is drawn in its own unit (`body.HEIGHT`) and scaled, so that a shot is the same picture at
every size.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np
import skia
from numpy.typing import NDArray

from understudy.pose.skeleton import Skeleton

from .accessories import draw_pack, draw_scarf, draw_straps, faces_viewer
from .body import HEIGHT, SIDES, Body
from .character import EXPRESSIONS, Character
from .garments import Outfit
from .head import Look, draw_head, draw_head_behind
from .ink import Ink
from .limbs import draw_arm, draw_foot, draw_leg
from .poses import Pose, make_pose
from .scene import Scene, draw_scene, draw_seat, draw_shadow, make_scene

FRAMINGS = ("whole", "upper", "close")

_SEATED = "sit"
_EMPTY_GROUND = 0.9
"""Where the ground is where nobody stands on it, of the height."""
_AIRBORNE = {"jump", "star_jump", "leap", "fly", "fall", "skip"}
_HANDS = {
    "wave": "open", "point": "point", "point_up": "point", "thumbs_up": "thumb", "guard": "fist",
    "punch": "fist", "flex": "fist", "cheer": "fist", "star_jump": "open", "arms_up": "open", "jump": "open",
    "shrug": "open", "catch": "open", "run": "fist", "march": "fist", "push": "open", "climb": "fist",
    "lunge": "fist", "pull": "fist", "swing_sword": "fist", "draw_bow": "fist", "hands_on_hips": "fist",
}  # fmt: skip

# How far hats and hair reach from the head's centre, in head radii.
_HAT_HEIGHTS = {"top hat": 2.0, "straw hat": 1.5, "beanie": 1.55}
_HAT_WIDTHS = {"straw hat": 2.0, "cap": 1.55, "top hat": 1.6}
_HAIR_HEIGHTS = {"bun": 1.75, "mohawk": 1.6, "afro": 1.6, "spiky": 1.5, "ponytail": 1.65}
_HAIR_WIDTHS = {
    "spiky": 1.55,
    "afro": 1.5,
    "pigtails": 1.75,
    "ponytail": 1.85,
    "braids": 1.55,
    "long": 1.45,
    "long wavy": 1.5,
}


@dataclass(frozen=True)
class Style:
    """How it is drawn: the outlines' width in thousandths of the figure's height, how strong the
    shades are (0 flat, 1 full) and how dark the outlines (1 the darkest)."""

    line_width: float = 4.0
    shading: float = 1.0
    line_darkness: float = 1.0


@dataclass(frozen=True)
class Framing:
    """How a figure stands in the picture.

    `kind` is one of `FRAMINGS`; `fill` is how much of the picture's room it takes, `shift_x` and
    `shift_y` where in the room that is left it stands: -1 at the left or top, 1 at the other end.
    """

    kind: str = "whole"
    fill: float = 0.94
    shift_x: float = 0.0
    shift_y: float = 0.3


@dataclass(frozen=True)
class Shot:
    """Everything of a picture that is not the character. `hands` are the right and the left."""

    pose: Pose
    expression: str = "happy"
    scene: Scene = field(default_factory=lambda: Scene("plain"))
    style: Style = field(default_factory=Style)
    framing: Framing = field(default_factory=Framing)
    hands: tuple[str, str] = ("relaxed", "relaxed")


@dataclass(frozen=True)
class Drawing:
    """A picture, (h, w, 3) of 8 bits; where its 18 keypoints are, in its pixels; and, where they
    were asked for, the part that each pixel shows, (h, w)."""

    picture: NDArray[np.uint8]
    skeleton: Skeleton
    parts: NDArray[np.uint8] | None = None


def make_shot(
    rng: random.Random,
    pose: Pose | None = None,
    *,
    expression: str | None = None,
    scene: Scene | None = None,
    style: Style | None = None,
    framing: Framing | None = None,
) -> Shot:
    """A shot at random; what is given stays."""
    chosen = make_pose(rng) if pose is None else pose
    return Shot(
        pose=chosen,
        expression=rng.choices(EXPRESSIONS, [3, 4, 1, 1, 1])[0] if expression is None else expression,
        scene=make_scene(rng) if scene is None else scene,
        style=_make_style(rng) if style is None else style,
        framing=_make_framing(rng) if framing is None else framing,
        hands=_make_hands(rng, chosen),
    )


def draw(
    character: Character,
    shot: Shot,
    width: int,
    height: int,
    *,
    window: tuple[int, int, int, int] | None = None,
    parts: bool = False,
) -> Drawing:
    """The picture of a shot, `width` x `height` pixels.

    With `window` (left, top, width, height) only that piece of it is drawn, its keypoints in the
    piece's pixels.
    """
    left, top, wide, high = window if window is not None else (0, 0, width, height)
    body = Body(character, shot.pose.rig)
    place = _Placement(body, shot.framing, width, height)
    picture = _draw_layer(body, shot, place, (left, top, wide, high), parts=False)
    painted = np.empty((high, wide, 3), np.uint8)
    for channel in range(3):  # a third of the time that one copy of all three takes
        painted[:, :, channel] = picture[:, :, channel]
    part_map = None
    if parts:
        part_map = _draw_layer(body, shot, place, (left, top, wide, high), parts=True)[:, :, 0].copy()
    return Drawing(painted, _place_skeleton(body, place, left, top, width, height), part_map)


def draw_empty(scene: Scene, style: Style, width: int, height: int) -> NDArray[np.uint8]:
    """A scene in which nobody is, (height, width, 3)."""
    pixels = np.zeros((height, width, 4), np.uint8)
    canvas = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType).getCanvas()
    ink = Ink(canvas, style.line_width, shading=style.shading, line_darkness=style.line_darkness)
    draw_scene(ink, scene, width, height, _EMPTY_GROUND * height)
    return pixels[:, :, :3].copy()


class _Placement:
    """Where a figure is in the picture: pixels = unit * place + offset."""

    def __init__(self, body: Body, framing: Framing, width: int, height: int) -> None:
        self.width, self.height = width, height
        left, top, right, bottom = _find_extent(body)
        standing = _find_standing_height(body)
        if framing.kind != "whole":
            head_x, head_y = body.point("head")
            reach = 2.1 if framing.kind == "close" else 3.9
            middle = body.point("neck") if framing.kind == "close" else body.point("pelvis")
            side = reach * body.head_radius * 1.12
            self.unit = min(width / side, height / (1.1 * side)) * framing.fill / 0.94
            centre = (head_x + 0.25 * (middle[0] - head_x), head_y + 0.3 * (middle[1] - head_y))
            self.x = width * (0.5 + 0.06 * framing.shift_x) - self.unit * centre[0]
            self.y = height * (0.48 + 0.04 * framing.shift_y) - self.unit * centre[1]
        else:
            room = framing.fill
            self.unit = min(
                room * width / (right - left),
                room * height / (bottom - top),
                room * height / (0.92 * standing),
            )
            free_x, free_y = width - self.unit * (right - left), height - self.unit * (bottom - top)
            self.x = free_x * (0.5 + 0.36 * framing.shift_x) - self.unit * left
            self.y = free_y * (0.5 + 0.42 * framing.shift_y) - self.unit * top
        self.ground = self.y + self.unit * body.lowest


def _draw_layer(
    body: Body, shot: Shot, place: _Placement, window: tuple[int, int, int, int], *, parts: bool
) -> NDArray[np.uint8]:
    left, top, wide, high = window
    pixels = np.zeros((high, wide, 4), np.uint8)
    surface = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType)
    canvas = surface.getCanvas()
    canvas.translate(-left, -top)
    style = shot.style
    ink = Ink(
        canvas,
        style.line_width,
        shading=style.shading,
        line_darkness=style.line_darkness,
        parts=parts,
    )
    ground = place.ground + (0.07 * HEIGHT * place.unit if shot.pose.family in _AIRBORNE else 0.0)
    draw_scene(ink, shot.scene, place.width, place.height, ground)
    canvas.translate(place.x, place.y)
    canvas.scale(place.unit, place.unit)
    _draw_figure(ink, body, shot, (ground - place.y) / place.unit)
    return pixels


def _draw_figure(ink: Ink, body: Body, shot: Shot, ground: float) -> None:
    character = body.character
    outfit = Outfit(body)
    head_x, head_y = body.point("head")
    look = Look(head_x, head_y, body.head_radius, body.head_yaw, body.head_nod, body.head_roll)
    draw_shadow(ink, _find_shadows(body, ground), ground - 8, 15.0, shot.scene)
    if shot.pose.family == _SEATED:
        x, y = body.point("pelvis")
        half = 1.25 * body.girths.hips
        draw_seat(ink, shot.scene, x - half, x + half, y + 0.55 * body.girths.thigh, ground - 4)

    hands = dict(zip(SIDES, shot.hands, strict=True))
    arms = sorted(SIDES, key=lambda side: body.depth(f"{side}_wrist") + body.depth(f"{side}_elbow"))
    behind = [side for side in arms if _is_arm_behind(body, outfit, side)]
    over_head = [side for side in arms if side not in behind and _is_arm_over_head(body, side)]
    legs = sorted(
        SIDES,
        key=lambda side: (
            2 * body.depth(f"{side}_knee") + body.depth(f"{side}_ankle") + body.depth(f"{side}_hip")
        ),
    )
    raised = [] if character.wears_skirt else [side for side in legs if _is_leg_raised(body, side)]

    draw_head_behind(ink, character, look)
    for side in behind:
        _draw_arm(ink, body, outfit, side, hands[side], flows=False)
    packed, outer = character.accessory == "backpack", outfit.layer or outfit.top
    if packed and faces_viewer(body):
        draw_pack(ink, body, outer)
    if not character.wears_skirt:
        outfit.draw_pelvis(ink)
    for side in legs:
        if side not in raised:
            _draw_leg(ink, body, outfit, side, flows=not character.wears_skirt)
    outfit.draw_skirt(ink)
    outfit.draw_neck(ink)
    outfit.draw_top(ink)
    outfit.draw_layer(ink)
    draw_straps(ink, body, outer)
    if packed and not faces_viewer(body):
        draw_pack(ink, body, outer)
    for side in raised:
        _draw_leg(ink, body, outfit, side, flows=False)
    for side in arms:
        if side not in behind and side not in over_head:
            _draw_arm(ink, body, outfit, side, hands[side], flows=True)
    draw_scarf(ink, body, outfit.top)
    draw_head(ink, character, look, shot.expression)
    for side in over_head:
        _draw_arm(ink, body, outfit, side, hands[side], flows=True)


def _draw_arm(ink: Ink, body: Body, outfit: Outfit, side: str, hand: str, *, flows: bool) -> None:
    sleeve = outfit.sleeves[-1] if outfit.sleeves else None
    trunk = outfit.trunk_path if flows and outfit.sleeve_flows else None
    draw_arm(ink, body, side, sleeve, hand, trunk)


def _draw_leg(ink: Ink, body: Body, outfit: Outfit, side: str, *, flows: bool) -> None:
    boots = body.character.shoes == "boots"
    if not boots:
        draw_foot(ink, body, side)
    draw_leg(ink, body, side, outfit.leg_cover, outfit.pelvis_path if flows else None)
    if boots:
        draw_foot(ink, body, side)


def _is_arm_behind(body: Body, outfit: Outfit, side: str) -> bool:
    """Whether the trunk hides some of an arm."""
    middle = (body.depth("neck") + body.depth("pelvis")) / 2
    depth = (body.depth(f"{side}_shoulder") + body.depth(f"{side}_elbow") + body.depth(f"{side}_wrist")) / 3
    if depth >= middle - 6:
        return False
    path = outfit.trunk_path
    shoulder, elbow, wrist = (body.point(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist"))
    for share, (start, end) in ((0.6, (shoulder, elbow)), (1.0, (shoulder, elbow)), (0.6, (elbow, wrist))):
        x, y = start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
        half = 0.8 * body.girths.elbow
        if any(path.contains(x + dx, y + dy) for dx, dy in ((0, 0), (half, 0), (-half, 0), (0, half))):
            return True
    return False


def _is_arm_over_head(body: Body, side: str) -> bool:
    """Whether an arm is before the head."""
    x, y, depth = body.joints["head"]
    wrist, elbow = body.joints[f"{side}_wrist"], body.joints[f"{side}_elbow"]
    near = 1.5 * body.head_radius
    touches = any(math.hypot(px - x, py - y) < near for px, py, _ in (wrist, elbow))
    return touches and max(wrist[2], (wrist[2] + elbow[2]) / 2) > depth - 4


def _is_leg_raised(body: Body, side: str) -> bool:
    """Whether a thigh lies before the trunk."""
    hip, knee = body.joints[f"{side}_hip"], body.joints[f"{side}_knee"]
    up = body.chest.up
    length = body.proportions.thigh * HEIGHT
    rise = sum((k - h) * u for h, k, u in zip(hip, knee, up, strict=True)) / length
    return rise > 0.1 and knee[2] - hip[2] > -0.35 * length


def _find_shadows(body: Body, ground: float) -> list[tuple[float, float]]:
    """The spans of the body that are near the ground."""
    reach = 120.0
    names = [
        "pelvis",
        "neck",
        "head",
        *(f"{side}_{name}" for side in SIDES for name in ("ankle", "toe", "knee", "wrist")),
    ]
    near = sorted(body.joints[name][0] for name in names if body.joints[name][1] > ground - reach)
    if not near:
        xs = [body.joints[name][0] for name in names]
        return [(min(xs) + 20, max(xs) - 20)] if max(xs) - min(xs) > 80 else [(min(xs) - 20, max(xs) + 20)]
    return [(near[0] - 55, near[-1] + 55)]


def _find_extent(body: Body) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the figure, hair and hat included."""
    head_x, head_y = body.point("head")
    radius = body.head_radius
    character = body.character
    tall = max(_HAT_HEIGHTS.get(character.hat, 1.25), _HAIR_HEIGHTS.get(character.hair, 1.25))
    wide = max(_HAT_WIDTHS.get(character.hat, 1.25), _HAIR_WIDTHS.get(character.hair, 1.25))
    roll = math.radians(body.head_roll)
    crown_x, crown_y = (
        head_x + math.sin(roll) * (tall - 1) * radius,
        head_y - math.cos(roll) * (tall - 1) * radius,
    )
    xs = [head_x - wide * radius, head_x + wide * radius, crown_x - radius, crown_x + radius]
    ys = [head_y - 1.05 * radius, head_y + 1.05 * radius, crown_y - radius, crown_y + radius, body.lowest]
    for name, (x, y, _) in body.joints.items():
        margin = 64 if name.endswith("wrist") else 40 if name.endswith(("elbow", "knee")) else 30
        xs += [x - margin, x + margin]
        ys += [y - margin, y + (margin if name.endswith("wrist") else 0)]
    if body.character.wears_skirt:
        xs += [min(xs) - 12, max(xs) + 12]
    return min(xs), min(ys), max(xs), max(ys)


def _find_standing_height(body: Body) -> float:
    sizes = body.proportions
    return HEIGHT * (sizes.shin + sizes.thigh + sizes.torso + sizes.neck + 2.2 * sizes.head_radius + 0.03)


def _place_skeleton(body: Body, place: _Placement, left: int, top: int, width: int, height: int) -> Skeleton:
    """The keypoints in pixels of the window; those outside of the whole picture are not seen."""
    skeleton = body.skeleton.copy()
    seen = skeleton[:, 2] > 0
    x, y = skeleton[:, 0] * place.unit + place.x, skeleton[:, 1] * place.unit + place.y
    seen &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
    skeleton[:, 0], skeleton[:, 1], skeleton[:, 2] = x - left, y - top, seen
    skeleton[~seen] = 0.0
    return skeleton


def _make_style(rng: random.Random) -> Style:
    return Style(rng.uniform(3.4, 5.2), rng.uniform(0.6, 1.0), rng.uniform(0.5, 1.0))


def _make_framing(rng: random.Random) -> Framing:
    kind = rng.choices(FRAMINGS, [90, 6, 4])[0]
    return Framing(kind, rng.uniform(0.86, 0.97), rng.uniform(-1, 1) * rng.random(), rng.uniform(-0.6, 1))


def _make_hands(rng: random.Random, pose: Pose) -> tuple[str, str]:
    usual = _HANDS.get(pose.family)
    chosen = []
    for side in SIDES:
        limb = getattr(pose.rig, f"{side}_arm")
        raised = isinstance(limb, tuple) and max(limb[0][0], limb[1][0]) > 70
        if usual is not None and (raised or pose.family in ("run", "march", "guard", "hands_on_hips")):
            chosen.append(usual)
        elif raised:
            chosen.append(rng.choices(("relaxed", "open", "fist"), [2, 2, 1])[0])
        else:
            chosen.append(rng.choices(("relaxed", "fist"), [5, 1])[0])
    return (chosen[0], chosen[1])
