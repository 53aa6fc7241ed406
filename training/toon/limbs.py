"""Arms, hands, legs and feet, bare or covered.

A limb that belongs to the trunk is open where it leaves it: its outline starts inside the trunk,
so that a sleeve flows out of a shirt with no seam.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import skia

from .body import Body
from .ink import Colour, Ink, Part, Point, darken, make_blob, make_limb, mix

HANDS = ("relaxed", "fist", "open", "point", "thumb")

_WHITE_RUBBER = (247, 247, 245)


@dataclass(frozen=True)
class Cover:
    """A sleeve or a trouser leg.

    `length` counts bones from the root: 1 ends at the elbow or knee, 2 at the wrist or ankle.
    `room` is how much wider than the limb it is, at its root and at its end. `cuff` is the length
    of a turned or ribbed end, 0 for none.
    """

    part: Part
    colour: Colour
    length: float
    room: tuple[float, float]
    decorate: Callable[[Ink, Sequence[Point], float], None] | None = None
    cuff: float = 0.0


def draw_arm(
    ink: Ink, body: Body, side: str, sleeve: Cover | None, hand: str, trunk: skia.Path | None
) -> None:
    """An arm with its hand; it flows out of `trunk`, or is a closed shape where that is None."""
    girths = body.girths
    chain = [find_shoulder(body, side), body.point(f"{side}_elbow"), body.point(f"{side}_wrist")]
    halves = [girths.shoulder, girths.elbow, girths.wrist]
    skin = body.character.colours["skin"]
    with ink.of(Part.SKIN):
        if sleeve is None:
            _draw_tube(ink, chain, halves, skin, trunk, flat=False)
        elif sleeve.length < 1.9:
            _draw_tube(ink, *_uncover(chain, halves, sleeve), skin, None, flat=False)
        draw_hand(ink, body, side, hand)
    if sleeve is not None:
        _draw_cover(ink, chain, halves, sleeve, trunk)


def find_shoulder(body: Body, side: str) -> Point:
    """The middle of a sleeve's root: a little below the shoulder's joint, so that shoulders slope."""
    x, y = body.point(f"{side}_shoulder")
    up = body.chest.up
    drop = 0.42 * body.girths.shoulder
    return (x - drop * up[0], y - drop * up[1])


def find_hip(body: Body, side: str) -> Point:
    """The middle of a leg's root, inside the pelvis."""
    return mix(body.point(f"{side}_hip"), body.point("pelvis"), 0.26)


def draw_leg(ink: Ink, body: Body, side: str, cover: Cover | None, trunk: skia.Path | None) -> None:
    """A leg without its foot; it flows out of `trunk`, or is a closed shape where that is None."""
    girths = body.girths
    chain = [find_hip(body, side), body.point(f"{side}_knee"), body.point(f"{side}_ankle")]
    halves = [girths.thigh, girths.knee, girths.ankle]
    skin = body.character.colours["skin"]
    with ink.of(Part.SKIN):
        if cover is None:
            _draw_tube(ink, chain, halves, skin, trunk, flat=False)
        elif cover.length < 1.6:
            _draw_tube(ink, *_uncover(chain, halves, cover), skin, None, flat=False)
    if cover is not None:
        _draw_cover(ink, chain, halves, cover, trunk)


def draw_foot(ink: Ink, body: Body, side: str) -> None:
    """A foot in its shoe. Boots go over the trousers: draw it after the leg."""
    foot = _Foot(body, side)
    character = body.character
    colour = character.colours["shoes"]
    match character.shoes:
        case "boots":
            foot.draw_shoe(ink, colour, darken(colour, 0.5), 7.0)
            foot.draw_shaft(ink, colour)
        case "sneakers":
            sole = (205, 205, 208) if character.shoes_colour == "white" else _WHITE_RUBBER
            foot.draw_shoe(ink, colour, sole, 8.0, toe_cap=sole)
            foot.draw_laces(ink, _WHITE_RUBBER if character.shoes_colour != "white" else (150, 152, 160))
        case "shoes":
            foot.draw_shoe(ink, colour, darken(colour, 0.45), 5.0)
        case _:
            foot.draw_sandal(ink, character.colours["skin"], colour)


class _Foot:
    """Where a foot's parts are: discs of heel and toes, and the way down to the sole."""

    def __init__(self, body: Body, side: str) -> None:
        girths = body.girths
        self.size = girths.foot
        self.ankle, self.knee = body.point(f"{side}_ankle"), body.point(f"{side}_knee")
        self.half_ankle = girths.ankle
        toe = body.point(f"{side}_toe")
        self.down = _unit(self.knee, self.ankle)
        size, down = self.size, self.down
        self.heel = (self.ankle[0] + 0.35 * size * down[0], self.ankle[1] + 0.35 * size * down[1])
        self.toe = mix(self.heel, toe, 0.86)

    def draw_shoe(
        self,
        ink: Ink,
        colour: Colour,
        sole: Colour,
        thickness: float,
        *,
        toe_cap: Colour | None = None,
    ) -> None:
        """A closed shoe with its sole."""
        path = make_limb([self.heel, self.toe], [self.size, 0.9 * self.size])

        def decorate() -> None:
            if toe_cap is not None:
                ink.fill(make_limb([mix(self.heel, self.toe, 1.32)], [0.78 * self.size]), toe_cap)
            ink.line(self._find_sole(), sole, 2 * thickness)

        with ink.of(Part.SHOES):
            ink.shape(path, colour, shadow=(0.0, 0.3 * self.size), decorate=decorate)

    def _find_sole(self) -> list[Point]:
        """The sole's edge: from heel to toes seen from the side, else across the nearer of the two."""
        x, y = self.down
        a, b = self.size, 0.9 * self.size
        heel = (self.heel[0] + x * a, self.heel[1] + y * a)
        toe = (self.toe[0] + x * b, self.toe[1] + y * b)
        way = (self.toe[0] - self.heel[0], self.toe[1] - self.heel[1])
        aside, ahead = way[1] * x - way[0] * y, way[0] * x + way[1] * y
        if abs(aside) > 1.1 * abs(ahead):
            along = _unit(heel, toe)
            return [
                (heel[0] - 60 * along[0], heel[1] - 60 * along[1]),
                (toe[0] + 60 * along[0], toe[1] + 60 * along[1]),
            ]
        return _across(toe if ahead > 0 else heel, self.down, 60)

    def draw_shaft(self, ink: Ink, colour: Colour) -> None:
        """A boot's shaft over the shin."""
        top = mix(self.ankle, self.knee, 0.42)
        points, halves = [self.heel, top], [self.size * 0.97, self.half_ankle + 6]
        shoe = make_limb([self.heel, self.toe], [self.size, 0.9 * self.size])
        with ink.of(Part.SHOES):
            tube = make_tube(points, halves, trunk=shoe)
            ink.stroke(tube, ink.outline_colour(colour), 2 * ink.line_width)
            ink.fill(tube, colour)
            _shade_tube(ink, points, halves)
            rim = mix(top, self.heel, 0.2)
            ink.line(_across(rim, self.down, halves[1]), ink.outline_colour(colour), ink.line_width)

    def draw_laces(self, ink: Ink, colour: Colour) -> None:
        """Two strokes over the instep."""
        for share in (0.35, 0.6):
            middle = mix(self.heel, self.toe, share)
            lift = (middle[0] - self.down[0] * 0.62 * self.size, middle[1] - self.down[1] * 0.62 * self.size)
            along = _unit(self.heel, self.toe)
            reach = 0.26 * self.size
            ends = [
                (lift[0] - reach * along[0], lift[1] - reach * along[1]),
                (lift[0] + reach * self.down[0], lift[1] + reach * self.down[1]),
            ]
            ink.line(ends, colour, 0.2 * self.size)

    def draw_sandal(self, ink: Ink, skin: Colour, colour: Colour) -> None:
        """A bare foot on a sole with two straps."""
        path = make_limb([self.heel, self.toe], [0.86 * self.size, 0.76 * self.size])
        with ink.of(Part.SKIN):
            ink.shape(path, skin, shadow=(0.0, 0.25 * self.size))
        x, y = self.down
        size = 0.86 * self.size
        along = _unit(self.heel, self.toe)
        with ink.of(Part.SHOES):
            back = (self.heel[0] + x * size - along[0] * 0.3 * size, self.heel[1] + y * size)
            front = (self.toe[0] + x * 0.9 * size + along[0] * 0.3 * size, self.toe[1] + y * 0.9 * size)
            sole = make_limb([back, front], [4.5, 4.5])
            with ink.clipped(path):
                for share in (0.12, 0.78):
                    middle = mix(self.heel, self.toe, share)
                    ends = [
                        (middle[0] - x * 60, middle[1] - y * 60),
                        (middle[0] + x * 60, middle[1] + y * 60),
                    ]
                    ink.line(ends, colour, 0.42 * size)
            ink.shape(sole, darken(colour, 0.8))


def draw_hand(ink: Ink, body: Body, side: str, kind: str) -> None:
    """A hand at the end of the forearm, the thumb towards the body's front and middle."""
    wrist, elbow = body.point(f"{side}_wrist"), body.point(f"{side}_elbow")
    forearm = body.proportions.forearm * 1000.0
    seen = math.dist(wrist, elbow) / forearm
    dx, dy = _unit(elbow, wrist) if seen > 0.05 else (0.0, 1.0)
    chest, sign = body.chest, 1 if side == "left" else -1
    tx = chest.forward[0] - 0.7 * sign * chest.across[0]
    ty = chest.forward[1] - 0.7 * sign * chest.across[1]
    aside = -1.0 if tx * -dy + ty * dx < 0 else 1.0
    size = body.girths.hand
    stretch = size * (0.55 + 0.45 * min(1.0, seen))

    def place(along: float, towards_thumb: float) -> Point:
        u, v = along * stretch, towards_thumb * size * aside
        return (wrist[0] + dx * u - dy * v, wrist[1] + dy * u + dx * v)

    skin = body.character.colours["skin"]
    path = skia.Path()
    lines: list[list[Point]] = []
    match kind:
        case "open":
            palm = [(-0.4, 0.7), (0.5, 1.1), (1.5, 0.95), (1.7, 0), (1.5, -0.95), (0.5, -1.1), (-0.4, -0.7)]
            for v, tip, spread in (
                (-0.72, 2.25, -1.2),
                (-0.25, 2.6, -0.42),
                (0.25, 2.6, 0.42),
                (0.7, 2.4, 1.2),
            ):
                path.addPath(make_limb([place(1.0, v), place(tip, spread)], [0.3 * size, 0.29 * size]))
            path.addPath(make_limb([place(0.5, 0.6), place(1.25, 1.75)], [0.36 * size, 0.3 * size]))
        case "fist" | "point" | "thumb":
            palm = [
                (-0.4, 0.7),
                (0.3, 1.15),
                (1.45, 1.1),
                (1.75, 0),
                (1.45, -1.1),
                (0.3, -1.15),
                (-0.4, -0.7),
            ]
            lines = [[place(1.05, v), place(1.55, v)] for v in (-0.45, 0.0, 0.45)]
            if kind == "point":
                path.addPath(make_limb([place(1.0, 0.55), place(2.75, 0.5)], [0.34 * size, 0.28 * size]))
                lines = lines[:2]
            elif kind == "thumb":
                path.addPath(make_limb([place(0.8, 0.6), place(0.9, 2.0)], [0.36 * size, 0.32 * size]))
            else:
                lines.append([place(0.75, 0.95), place(1.0, 0.35)])
        case _:
            palm = [(-0.4, 0.7), (0.6, 1.05), (1.6, 0.95), (2.5, 0.5), (2.45, -0.5), (1.5, -1.0), (0.4, -1.0),
                    (-0.4, -0.7)]  # fmt: skip
            path.addPath(make_limb([place(0.35, 0.6), place(1.35, 1.2)], [0.38 * size, 0.33 * size]))
            lines = [[place(1.6, v), place(2.15, 0.9 * v)] for v in (-0.28, 0.25)]
    path.addPath(make_blob(turn_clockwise([place(*point) for point in palm])))
    ink.shape(path, skin)
    fold = skia.Path()
    for first, second in lines:
        fold.moveTo(*first)
        fold.lineTo(*second)
    if lines:
        ink.stroke(fold, ink.outline_colour(skin), 0.8 * ink.line_width)


def _draw_cover(
    ink: Ink, chain: list[Point], halves: list[float], cover: Cover, trunk: skia.Path | None
) -> None:
    points, widths = _cut(chain, halves, cover)
    with ink.of(cover.part):
        _draw_tube(ink, points, widths, cover.colour, trunk, flat=True, decorate=cover.decorate)
        if cover.cuff:
            start = mix(
                points[-1], points[-2], min(0.9, cover.cuff / (math.dist(points[-1], points[-2]) + 1e-9))
            )
            ends = _across(start, _unit(points[-2], points[-1]), widths[-1] * 0.97)
            ink.line(ends, ink.outline_colour(cover.colour), ink.line_width)


def _cut(chain: list[Point], halves: list[float], cover: Cover) -> tuple[list[Point], list[float]]:
    """The covered part of a limb, with the cover's room."""
    first, last = cover.room
    bones = min(len(chain) - 1, math.ceil(cover.length - 1e-9))
    share = cover.length - (bones - 1)
    points = [*chain[:bones], mix(chain[bones - 1], chain[bones], share)]
    widths = [*halves[:bones], halves[bones - 1] + (halves[bones] - halves[bones - 1]) * share]
    count = len(points) - 1
    return points, [w + first + (last - first) * i / count for i, w in enumerate(widths)]


def _uncover(chain: list[Point], halves: list[float], cover: Cover) -> tuple[list[Point], list[float]]:
    """What comes out of a cover, starting a little inside of it."""
    start = max(0.0, cover.length - 0.02)
    bone = int(start)
    share = start - bone
    point = mix(chain[bone], chain[bone + 1], share)
    half = halves[bone] + (halves[bone + 1] - halves[bone]) * share
    return [point, *chain[bone + 1 :]], [half, *halves[bone + 1 :]]


def _draw_tube(
    ink: Ink,
    points: list[Point],
    halves: list[float],
    colour: Colour,
    trunk: skia.Path | None,
    *,
    flat: bool,
    decorate: Callable[[Ink, Sequence[Point], float], None] | None = None,
) -> None:
    tube = make_tube(points, halves, trunk=trunk, flat=flat)
    ink.stroke(tube, ink.outline_colour(colour), 2 * ink.line_width)
    ink.fill(tube, colour)
    if decorate is not None:
        with ink.clipped(tube):
            decorate(ink, points, max(halves))
    _shade_tube(ink, points, halves, tapers=trunk is not None)


def make_tube(
    points: Sequence[Point], halves: Sequence[float], *, trunk: skia.Path | None = None, flat: bool = True
) -> skia.Path:
    """A limb of straight bones with round joints.

    With `trunk` it is open at its start, and its sides start where they leave the trunk; without,
    it starts with a disc. It ends flat, or with a disc.
    """
    path = skia.Path()
    last = len(points) - 2
    if trunk is None:
        path.addCircle(*points[0], halves[0])
    for index in range(last + 1):
        (ax, ay), (bx, by) = points[index], points[index + 1]
        ux, uy = _unit(points[index], points[index + 1])
        a, b = halves[index], halves[index + 1]
        right, left = (ax + uy * a, ay - ux * a), (ax - uy * a, ay + ux * a)
        if index == 0 and trunk is not None:
            right, left = (_leave(trunk, edge, (ux, uy), a) for edge in (right, left))
        path.moveTo(*right)
        path.lineTo(bx + uy * b, by - ux * b)
        if index == last and flat:
            bow = 0.28 * b
            path.quadTo(bx + ux * bow, by + uy * bow, bx - uy * b, by + ux * b)
        else:
            path.lineTo(bx - uy * b, by + ux * b)
        path.lineTo(*left)
        if index < last or not flat:
            path.addCircle(bx, by, b)
    return path


def _leave(trunk: skia.Path, edge: Point, along: Point, half: float) -> Point:
    """Where a side's line starts: as far along as it surely is inside the trunk, or at its root."""
    for reach in (1.3, 0.8):
        x, y = edge[0] + along[0] * half * reach, edge[1] + along[1] * half * reach
        if trunk.contains(x, y):
            return (x, y)
    return edge


def _shade_tube(ink: Ink, points: Sequence[Point], halves: Sequence[float], *, tapers: bool = False) -> None:
    """Shade the side of a limb that lies to the right or below; `tapers` from nothing at its root."""
    if ink.parts or not ink.shading:
        return
    ways = [_unit(a, b) for a, b in pairwise(points)]
    sides = [1.0 if -0.9 * uy + 0.45 * ux > 0 else -1.0 for ux, uy in ways]
    path = skia.Path()
    for index, ((ux, uy), side) in enumerate(zip(ways, sides, strict=True)):
        corners: list[list[Point]] = [[], []]
        for end in (index, index + 1):
            # Where the next bone is shaded on the same side the two shades meet on one line.
            other = index - 1 if end == index else index + 1
            nx, ny = -uy * side, ux * side
            if 0 <= other < len(ways) and sides[other] == side:
                mx, my = nx - ways[other][1] * side, ny + ways[other][0] * side
                size = max(0.3, 0.5 * (mx * mx + my * my))
                nx, ny = mx / size, my / size
            x, y = points[end]
            half = halves[end]
            corners[0].append((x + nx * half, y + ny * half))
            inner = half * (0.9 if tapers and end == 0 else 0.35)
            corners[1].append((x + nx * inner, y + ny * inner))
        band = turn_clockwise([*corners[0], *reversed(corners[1])])
        path.moveTo(*band[0])
        for corner in band[1:]:
            path.lineTo(*corner)
        path.close()
    ink.fill(path, (40, 20, 60), 0.15 * ink.shading)


def turn_clockwise(points: list[Point]) -> list[Point]:
    """The points in the order that is clockwise to the eye: joined shapes must all turn one way."""
    area = 0.0
    x, y = points[-1]
    for u, v in points:
        area += x * v - u * y
        x, y = u, v
    return points if area >= 0 else points[::-1]


def _unit(a: Point, b: Point) -> Point:
    x, y = b[0] - a[0], b[1] - a[1]
    length = math.hypot(x, y)
    return (x / length, y / length) if length > 1e-6 else (0.0, 1.0)


def _across(middle: Point, along: Point, half: float) -> list[Point]:
    """The two ends of a line across a limb."""
    x, y = -along[1] * half, along[0] * half
    return [(middle[0] - x, middle[1] - y), (middle[0] + x, middle[1] + y)]
