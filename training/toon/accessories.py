"""What is worn on top of clothes: scarf, tie, bow tie and backpack."""

from __future__ import annotations

from .body import HEIGHT, Body, Trunk
from .ink import Ink, Part, Point, darken, make_limb, make_polygon, mix
from .outlines import find_hull, round_corners


def draw_tie(ink: Ink, body: Body, trunk: Trunk) -> None:
    """A tie or bow tie on a shirt, below an open layer."""
    kind = body.character.accessory
    if kind not in ("tie", "bow tie") or not trunk.sees(0, 0.9):
        return
    colour = body.character.colours["accessory"]
    with ink.of(Part.ACCESSORY):
        knot = trunk.place(0, 0.93)
        if kind == "tie":
            blade = [
                trunk.place(-7, 0.9), trunk.place(7, 0.9), trunk.place(15, 0.34), trunk.place(0, 0.24),
                trunk.place(-15, 0.34),
            ]  # fmt: skip
            ink.shape(make_polygon(blade), colour, shadow=(4.0, 0.0))
            ink.shape(make_limb([knot, trunk.place(0, 0.9)], [9.0, 7.0]), colour)
        else:
            for sign in (-1, 1):
                wing = [knot, trunk.place(sign * 38, 1.02), trunk.place(sign * 36, 0.82)]
                ink.shape(round_corners(wing, 4.0), colour)
            ink.shape(make_limb([knot], [7.5]), colour)


def draw_scarf(ink: Ink, body: Body, trunk: Trunk) -> None:
    """A scarf around the neck, one end down the chest."""
    if body.character.accessory != "scarf":
        return
    colour = body.character.colours["accessory"]
    x, y = trunk.normal
    reach = body.girths.neck + 13
    centre = trunk.find_centre(1.07)
    with ink.of(Part.ACCESSORY):
        if trunk.sees(24, 0.8):
            end = [
                trunk.place(12, 0.98), trunk.place(44, 0.98), trunk.place(40, 0.44), trunk.place(12, 0.42),
            ]  # fmt: skip

            def decorate() -> None:
                for height in (0.5, 0.56):
                    line = [trunk.place(4, height), trunk.place(50, height)]
                    ink.line(line, darken(colour, 0.72), 1.2 * ink.line_width)

            ink.shape(round_corners(end, 5.0), colour, shadow=(6.0, 2.0), decorate=decorate)
        front = trunk.place(0, 0.99)
        middle = mix(centre, front, 0.55) if trunk.sees(0, 1.0) else centre
        ends = [(centre[0] + sign * reach * x, centre[1] + sign * reach * y) for sign in (-1, 1)]
        ink.shape(make_limb([ends[0], middle, ends[1]], [15.0, 17.0, 15.0]), colour, shadow=(3.0, 6.0))


def draw_pack(ink: Ink, body: Body, trunk: Trunk) -> None:
    """A backpack's bag: drawn before the trunk where the body faces the viewer, else after it."""
    colour = body.character.colours["accessory"]
    pack = _Pack(body, trunk)
    with ink.of(Part.ACCESSORY):
        ink.shape(round_corners(find_hull(pack.corners), 20.0), colour, shadow=(10.0, 6.0))
        if pack.shows_back:
            line = ink.outline_colour(colour)
            flap = [
                pack.find(-1, 0.35, 1),
                pack.find(-0.8, 0.12, 1),
                pack.find(0.8, 0.12, 1),
                pack.find(1, 0.35, 1),
            ]
            ink.line(flap, line, ink.line_width)
            pocket = [
                pack.find(u, v, 1) for u, v in ((-0.62, -0.12), (0.62, -0.12), (0.62, -0.78), (-0.62, -0.78))
            ]
            ink.shape(round_corners(pocket, 9.0), darken(colour, 0.9))


def draw_straps(ink: Ink, body: Body, trunk: Trunk) -> None:
    """A backpack's straps over the shoulders, seen from the front and the side."""
    if body.character.accessory != "backpack":
        return
    colour = darken(body.character.colours["accessory"], 0.82)
    with ink.of(Part.ACCESSORY):
        for sign in (-1, 1):
            angle = sign * 44
            if not trunk.sees(angle, 0.6):
                continue
            line = [
                trunk.place(sign * 48, 1.07), trunk.place(angle, 0.86), trunk.place(sign * 50, 0.6),
                trunk.place(sign * 74, 0.42), trunk.place(sign * 95, 0.34),
            ]  # fmt: skip
            ink.line(line, ink.outline_colour(colour), 14 + 2 * ink.line_width)
            ink.line(line, colour, 14)


def faces_viewer(body: Body) -> bool:
    """Whether the chest is turned to the viewer."""
    return body.chest.forward[2] >= 0


class _Pack:
    """A box on the back: u across, v up, w away from the back, each from -1 to 1."""

    def __init__(self, body: Body, trunk: Trunk) -> None:
        girths, chest = body.girths, body.chest
        self.half = (0.86 * girths.chest, 0.33 * body.proportions.torso * HEIGHT, 26.0)
        self.frame = chest
        base = body.joints["pelvis"]
        neck = body.joints["neck"]
        back = girths.depth * girths.chest + 18
        self.centre = tuple(
            a + 0.56 * (b - a) - back * f for a, b, f in zip(base, neck, chest.forward, strict=True)
        )
        self.shows_back = chest.forward[2] < -0.3

    @property
    def corners(self) -> list[Point]:
        """The box's eight corners."""
        return [self.find(u, v, w) for u in (-1, 1) for v in (-1, 1) for w in (-1, 1)]

    def find(self, u: float, v: float, w: float) -> Point:
        """Where a place in the box is seen."""
        across, up, out = self.half
        frame = self.frame
        x, y = (
            self.centre[i] + u * across * frame.across[i] + v * up * frame.up[i] - w * out * frame.forward[i]
            for i in (0, 1)
        )
        return (x, y)
