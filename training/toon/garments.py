"""What a character wears on trunk, arms and legs, and what hangs on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import skia

from .accessories import draw_tie
from .body import HEIGHT, SIDES, Body, Trunk
from .ink import Colour, Ink, Part, Point, darken, make_limb, make_oval, make_polygon, mix, mix_colours
from .limbs import Cover, find_hip, find_shoulder, turn_clockwise
from .outlines import add_outline, curve_through, find_hull, outline_trunk, round_corners
from .patterns import draw_on_trunk, make_tube_pattern
from .trimmings import (
    OPENINGS,
    decorate_layer,
    decorate_top,
    draw_bib,
    draw_collar,
    draw_lapels,
)


@dataclass(frozen=True)
class Cut:
    """How a garment of the trunk is cut: heights are those of the trunk, 0 the pelvis, 1 the neck."""

    hem: float
    room: float
    sleeve: float
    """Bones of the arm that are covered: 0 none, 1 to the elbow, 2 to the wrist."""
    sleeve_room: tuple[float, float] = (2.0, 4.0)
    cuff: float = 0.0


TOP_CUTS = {
    "t-shirt": Cut(-0.15, 3, 0.62, (2, 7)),
    "shirt": Cut(-0.19, 4, 1.9, (2, 4), 10),
    "polo shirt": Cut(-0.15, 3, 0.68, (2, 6), 7),
    "sweater": Cut(-0.13, 7, 1.93, (4, 7), 12),
    "turtleneck": Cut(-0.12, 3, 1.95, (1, 4), 9),
    "hoodie": Cut(-0.15, 9, 1.92, (5, 8), 12),
    "tank top": Cut(-0.12, 2, 0),
    "dress": Cut(0.02, 2, 0.5, (2, 7)),
}
LAYER_CUTS = {
    "shirt": Cut(-0.21, 8, 1.9, (5, 6), 10),
    "jacket": Cut(-0.10, 10, 1.94, (7, 8), 12),
    "vest": Cut(-0.10, 7, 0),
    "coat": Cut(-0.66, 12, 1.94, (8, 10), 14),
    "cardigan": Cut(-0.32, 8, 1.94, (5, 8), 11),
}
_NECKLINES = {"tank top": 0.80, "shirt": 0.84, "polo shirt": 0.86, "dress": 0.84, "turtleneck": 0.95}
"""How high the neckline is at the breastbone, where it is not just below the neck."""

_TANK_EDGE = [
    (sign * angle, height)
    for angle, height in ((14, 0.82), (26, 0.9), (36, 1.06), (52, 1.06), (62, 0.84), (76, 0.68),
                          (104, 0.68), (118, 0.84), (128, 1.06), (144, 1.06), (154, 0.96), (168, 0.9))
    for sign in (-1, 1)
]  # fmt: skip
"""Angles and heights of the upper edge of a tank top: neckline, straps and armholes."""

LEG_LENGTHS = {
    "jeans": 1.9, "trousers": 1.88, "shorts": 0.86, "leggings": 1.93, "dungarees": 1.88,
}  # fmt: skip
_LEG_ROOM = {"jeans": (1, 4), "trousers": (2, 7), "shorts": (3, 9), "leggings": (-2, 0), "dungarees": (3, 6)}
SKIRT_LENGTHS = {"skirt": 0.85, "long skirt": 1.75, "dress": 0.95}
"""Bones of the leg that a skirt covers."""


class Outfit:
    """The clothes of a body in a pose, piece by piece, in the order that the renderer asks for."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.character = body.character
        self.colours = body.character.colours
        self.top_cut = TOP_CUTS[self.character.top]
        self.layer_cut = LAYER_CUTS.get(self.character.layer)
        self.top = self._make_trunk(self.top_cut)
        self.layer = self._make_trunk(self.layer_cut) if self.layer_cut else None

    # What others ask

    @cached_property
    def top_path(self) -> skia.Path:
        """The outline of the top."""
        return self._make_trunk_path(self.top, self._find_hem(self.top_cut), self.top_cut)

    @cached_property
    def layer_path(self) -> skia.Path:
        """The outline of the layer, as if it were closed."""
        assert self.layer is not None
        assert self.layer_cut is not None
        return self._make_trunk_path(self.layer, self._find_hem(self.layer_cut), self.layer_cut)

    @property
    def trunk_path(self) -> skia.Path:
        """The outline that arms flow out of."""
        return self.layer_path if self.layer else self.top_path

    @cached_property
    def sleeves(self) -> list[Cover]:
        """What covers an arm, the innermost first."""
        found = []
        character = self.character
        if self.top_cut.sleeve:
            found.append(self._make_sleeve(Part.TOP, self.top_cut, "top", character.top_pattern))
        if self.layer_cut and self.layer_cut.sleeve:
            found = [self._make_sleeve(Part.LAYER, self.layer_cut, "layer", character.layer_pattern)]
        return found

    @property
    def sleeve_flows(self) -> bool:
        """Whether the arm and what the trunk shows at the shoulder are of one piece."""
        return not (self.layer_cut and not self.layer_cut.sleeve)

    @cached_property
    def leg_cover(self) -> Cover | None:
        """What covers a leg, None for bare legs under a skirt."""
        bottom = self.character.bottom
        if self.character.top == "dress" or bottom not in LEG_LENGTHS:
            return None
        cuff = {"jeans": 12.0, "shorts": 9.0, "dungarees": 12.0}.get(bottom, 0.0)
        length = LEG_LENGTHS[bottom]
        if self.character.shoes == "boots" and length > 1.6:
            length, cuff = 1.62, 0.0
        return Cover(Part.BOTTOM, self.colours["bottom"], length, _LEG_ROOM[bottom], cuff=cuff)

    # Drawing

    def draw_neck(self, ink: Ink) -> None:
        """The neck in the head's shadow, and a hood that hangs behind it; before the top."""
        if self.character.top == "hoodie" and self.top.sees(0, 1.0):
            x, y = self.top.find_centre(1.06)
            with ink.of(Part.TOP):
                colour = darken(self.colours["top"], 0.88)
                ink.shape(make_oval(x, y, self.body.girths.neck + 34, 30), colour)
        part, colour = self._find_neck_colour(ink)
        with ink.of(part):
            ink.shape(self._neck_path, colour)

    @cached_property
    def _neck_path(self) -> skia.Path:
        body = self.body
        half = body.girths.neck
        middle = mix(body.point("neck"), body.point("head"), 0.5)
        return make_limb([self.top.find_centre(1.11), middle], [half, half])

    def _find_neck_colour(self, ink: Ink) -> tuple[Part, Colour]:
        """What covers the neck, and its colour in the head's shadow."""
        high = self.character.top == "turtleneck"
        part, colour = (Part.TOP, self.colours["top"]) if high else (Part.SKIN, self.colours["skin"])
        return part, mix_colours(colour, (40, 20, 60), 0.17 * ink.shading)

    def draw_pelvis(self, ink: Ink) -> None:
        """The seat of the trousers, before the legs."""
        with ink.of(self.leg_cover.part if self.leg_cover else Part.SKIN):
            ink.shape(self.pelvis_path, self.leg_cover.colour if self.leg_cover else self.colours["skin"])

    @cached_property
    def pelvis_path(self) -> skia.Path:
        """The seat of the trousers."""
        girths = self.body.girths
        half = max(girths.hips, self._leg_reach)
        depth = 0.82 * half
        waist = girths.waist - 3
        trunk = Trunk(
            self.body,
            [(-0.2, 0.8 * half, 0.8 * depth), (0.0, half, depth), (0.35, waist, girths.depth * waist)],
        )
        path = skia.Path()
        add_outline(path, outline_trunk(trunk, [-0.17, -0.05, 0.1, 0.3]))
        return path

    @cached_property
    def _leg_reach(self) -> float:
        """Half of the width of the two legs at their roots."""
        body = self.body
        return 0.74 * body.proportions.hip_width * HEIGHT + body.girths.thigh

    def draw_skirt(self, ink: Ink) -> None:
        """A skirt around both legs, after them."""
        character = self.character
        kind = "dress" if character.top == "dress" else character.bottom
        if kind not in SKIRT_LENGTHS:
            return
        part, colour = (Part.TOP, "top") if kind == "dress" else (Part.BOTTOM, "bottom")
        points = self._outline_skirt(SKIRT_LENGTHS[kind], 0.42 if kind == "dress" else 0.1)
        path = round_corners(points, 9.0)
        pattern = character.top_pattern if kind == "dress" else "plain"

        def decorate() -> None:
            if pattern != "plain":
                draw_on_trunk(ink, self._skirt_trunk, pattern, self.colours[colour], -1.6, 0.5)
            folds = skia.Path()
            for angle in (-40, 35):
                if self.top.sees(angle, 0.0):
                    line = self._skirt_trunk.trace(angle, -0.9, -0.25)
                    folds.moveTo(*line[0])
                    folds.lineTo(*line[-1])
            ink.stroke(folds, ink.outline_colour(self.colours[colour]), 0.8 * ink.line_width, 0.6)

        with ink.of(part):
            ink.shape(path, self.colours[colour], shadow=(10.0, 5.0), decorate=decorate)

    def draw_top(self, ink: Ink) -> None:
        """The top on the trunk, with what is on it."""
        character = self.character
        colour = self.colours["top"]

        def decorate() -> None:
            hem = self._find_hem(self.top_cut)
            draw_on_trunk(ink, self.top, character.top_pattern, colour, hem, 1.1)
            decorate_top(ink, character, self.top, hem)

        if character.top == "tank top":
            with ink.of(Part.SKIN):
                ink.shape(self.top_path, self.colours["skin"], shadow=(10.0, 4.0))
            path = self._make_tank_path()
        else:
            path = self.top_path
        with ink.of(Part.TOP):
            ink.shape(path, colour, shadow=(10.0, 4.0), decorate=decorate)
        self._draw_neckline(ink)
        draw_tie(ink, self.body, self.top)
        with ink.of(Part.TOP):
            draw_collar(ink, character, self.top)
        if character.bottom == "dungarees" and character.top != "dress":
            draw_bib(ink, character, self.top, self.top_path)

    def draw_layer(self, ink: Ink) -> None:
        """The layer over the top, but for its opening; from behind that has no width."""
        if self.layer is None or self.layer_cut is None:
            return
        character = self.character
        trunk, colour = self.layer, self.colours["layer"]
        hem = self._find_hem(self.layer_cut)

        def decorate() -> None:
            draw_on_trunk(ink, trunk, character.layer_pattern, colour, hem, 1.1)
            decorate_layer(ink, character, trunk, hem)

        opening = OPENINGS[character.layer]
        edges = {sign: self._trace_opening(sign * opening, hem) for sign in (-1, 1)}
        is_open = any(trunk.sees(angle, 0.4) for angle in (-opening, 0, opening))
        gap = make_polygon([*edges[-1], *reversed(edges[1])]) if is_open else skia.Path()
        with ink.of(Part.LAYER):
            with ink.clipped(gap, outside=True):
                ink.shape(self.layer_path, colour, shadow=(10.0, 4.0), decorate=decorate)
            with ink.clipped(self.layer_path):
                for sign, edge in edges.items():
                    if trunk.sees(sign * opening, 0.4):
                        ink.line(edge, ink.outline_colour(colour), 1.6 * ink.line_width)
            draw_lapels(ink, character, trunk)

    # Pieces

    def _make_sleeve(self, part: Part, cut: Cut, key: str, pattern: str) -> Cover:
        colour = self.colours[key]
        return Cover(
            part, colour, cut.sleeve, cut.sleeve_room, make_tube_pattern(pattern, colour), cuff=cut.cuff
        )

    def _make_trunk(self, cut: Cut) -> Trunk:
        girths, room = self.body.girths, cut.room
        chest, waist, hips = (
            girths.chest + room,
            girths.waist + room,
            max(girths.hips, self._leg_reach) + room,
        )
        deep = girths.depth
        profile = [
            (0.0, hips, 0.8 * hips), (0.42, waist, (deep + 0.08) * waist), (0.78, chest, deep * chest),
            (0.96, 0.94 * chest, 0.8 * deep * chest), (1.08, girths.neck + 7, girths.neck + 5),
        ]  # fmt: skip
        if cut.hem < 0:
            flare = 1.0 + 0.28 * max(0.0, -cut.hem - 0.2)
            profile.insert(0, (cut.hem, hips * flare, 0.8 * hips * flare))
        return Trunk(self.body, profile)

    def _find_hem(self, cut: Cut) -> float:
        """The hem's height: where the thighs are raised the cloth gathers at the hips, and a bib is
        worn over it."""
        if cut is self.top_cut and self.character.bottom == "dungarees" and self.character.top != "dress":
            return 0.14
        return cut.hem + (max(cut.hem, -0.04) - cut.hem) * self._sitting

    @cached_property
    def _sitting(self) -> float:
        """How much the thighs leave the line of the trunk: 0 standing, 1 sitting."""
        body = self.body
        up = body.hips.up
        raised = 0.0
        for side in SIDES:
            hip, knee = body.joints[f"{side}_hip"], body.joints[f"{side}_knee"]
            down = -sum((k - h) * u for h, k, u in zip(hip, knee, up, strict=True))
            raised += 0.5 * max(0.0, min(1.0, 1.35 - 1.6 * down / (body.proportions.thigh * HEIGHT)))
        return raised

    def _make_trunk_path(self, trunk: Trunk, hem: float, cut: Cut) -> skia.Path:
        heights = [hem, *(h for h in (0.0, 0.2, 0.42, 0.6, 0.78, 0.9) if h > hem + 0.05), 1.02]
        path = skia.Path()
        add_outline(path, outline_trunk(trunk, heights))
        body = self.body
        reach = body.girths.shoulder + (cut.sleeve_room[0] if cut.sleeve else 1.0)
        base = trunk.find_centre(0.97)
        for side in SIDES:
            shoulder = find_shoulder(body, side)
            path.addPath(make_limb([base, shoulder], [body.girths.neck + 3, reach]))
        return path

    def _make_tank_path(self) -> skia.Path:
        trunk = self.top
        hem = self._find_hem(self.top_cut)
        path = skia.Path()
        add_outline(path, outline_trunk(trunk, [hem, *(h for h in (0.0, 0.2, 0.42) if h > hem), 0.62]))
        middle = trunk.find_middle(0.8)
        edge = [trunk.place(a, h) for a, h in _TANK_EDGE if abs((a - middle + 180) % 360 - 180) < 90]
        # The edge's list starts at the breastbone; what is seen may start anywhere on it.
        angles = [a for a, _ in _TANK_EDGE if abs((a - middle + 180) % 360 - 180) < 90]
        order = sorted(range(len(edge)), key=lambda i: (angles[i] - middle + 180) % 360)
        first, last = trunk.find_middle(0.6) - 90, trunk.find_middle(0.6) + 90
        points = [trunk.place(first, 0.55), trunk.place(first, 0.62), *(edge[i] for i in order)]
        points += [trunk.place(last, 0.62), trunk.place(last, 0.55)]
        path.addPath(make_polygon(turn_clockwise(points)))
        return path

    def _draw_neckline(self, ink: Ink) -> None:
        """The neck's opening, or its high collar: it faces forward and is gone from behind."""
        trunk = self.top
        if not trunk.sees(0, 0.95):
            return
        deep = _NECKLINES.get(self.character.top, 0.92)
        rim = [trunk.place(angle, height) for angle, height in _trace_neckline(deep)]
        path = skia.Path()
        path.moveTo(*rim[0])
        curve_through(path, rim)
        part, colour = self._find_neck_colour(ink)
        with ink.of(part):
            ink.stroke(path, ink.outline_colour(self.colours["top"]), 2 * ink.line_width)
            ink.fill(path, colour)
            ink.fill(self._neck_path, colour)

    def _trace_opening(self, angle: float, hem: float) -> list[Point]:
        """An edge of the layer's opening, from below the hem to above the neck.

        One that faces away is moved off the outline: there the top is what ends the figure.
        """
        assert self.layer is not None
        line = self.layer.trace(angle, hem - 0.05, 0.92)
        line.append(self.layer.place(1.5 * angle, 1.08))
        if not self.layer.sees(angle, 0.4):
            (x, y), (u, v) = self.layer.place(angle, 0.4), self.layer.find_centre(0.4)
            away = 30.0 / (math.dist((x, y), (u, v)) or 1.0)
            line = [(px + (x - u) * away, py + (y - v) * away) for px, py in line]
        (ax, ay), (bx, by) = self.layer.find_centre(1.0), self.layer.find_centre(1.15)
        return [*line, (line[-1][0] + bx - ax, line[-1][1] + by - ay)]

    @cached_property
    def _skirt_trunk(self) -> Trunk:
        girths = self.body.girths
        half = max(girths.hips, self._leg_reach) + 1
        return Trunk(
            self.body,
            [
                (-1.4, 1.7 * half, 1.4 * half),
                (0.0, half, 0.8 * half),
                (0.42, girths.waist, 0.7 * girths.waist),
            ],
        )

    def _outline_skirt(self, length: float, waist: float) -> list[Point]:
        """The hull of the waist, the hips and, at the hem, both legs."""
        body = self.body
        points = [*self.top.find_sides(waist), *self._skirt_trunk.find_sides(0.0)]
        flare = (body.girths.thigh + 22) if length < 1.2 else body.girths.knee + 24
        for side in SIDES:
            chain = [find_hip(body, side), body.point(f"{side}_knee"), body.point(f"{side}_ankle")]
            bone = 0 if length < 1 else 1
            start, end = chain[bone], chain[bone + 1]
            hem = mix(start, end, length - bone)
            ux, uy = end[0] - start[0], end[1] - start[1]
            size = math.hypot(ux, uy) or 1.0
            ux, uy = ux / size, uy / size
            points += [(hem[0] - uy * flare, hem[1] + ux * flare), (hem[0] + uy * flare, hem[1] - ux * flare)]
            points.append((hem[0] + ux * 12, hem[1] + uy * 12))
            if bone:
                x, y = chain[1]
                points += [(x - 40, y), (x + 40, y), (x, y - 40)]
        return find_hull(points)


def _trace_neckline(deep: float) -> list[tuple[float, float]]:
    """Angles and heights of a neckline that is `deep` at the breastbone."""
    high = 1.07
    return [(-82, high), (-58, high - 0.35 * (high - deep)), (-25, deep), (25, deep),
            (58, high - 0.35 * (high - deep)), (82, high)]  # fmt: skip
