"""Patterns on cloth: stripes, plaid and polka dots, on a trunk and along a limb."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import skia

from .body import Trunk
from .ink import Colour, Ink, Point, darken

TubePattern = Callable[[Ink, Sequence[Point], float], None]


def find_second_colour(colour: Colour) -> Colour:
    """The colour of stripes and dots on cloth: white, or grey-blue on what is nearly white."""
    if sum(colour) / 3 > 205:
        return (96, 118, 160)
    return (248, 246, 240)


def draw_on_trunk(ink: Ink, trunk: Trunk, pattern: str, colour: Colour, low: float, high: float) -> None:
    """A pattern on the trunk between two heights; clipping it to the garment is the caller's."""
    second = find_second_colour(colour)
    match pattern:
        case "striped":
            rims = _join(_extend(trunk.trace_rim(h, 6)) for h in _count(low - 0.02, high, 0.15))
            ink.stroke(rims, second, 16)
        case "plaid":
            middle = trunk.find_middle(0.5)
            angles = [a for a in range(-165, 181, 30) if abs((a - middle + 180) % 360 - 180) < 85]
            upright = _join(_go_up(trunk, trunk.trace(a, low - 0.05, 0.88), high - 0.88) for a in angles)
            level = _join(_extend(trunk.trace_rim(h, 6)) for h in _count(low + 0.03, 1.0, 0.145))
            draw_plaid(ink, upright, level, colour)
        case "polka-dot":
            dots = skia.Path()
            for row, h in enumerate(_count(low + 0.04, high, 0.11)):
                for angle in range(-180 + 14 * (row % 2), 180, 28):
                    if trunk.sees(angle, h):
                        dots.addCircle(*trunk.place(angle, h), 5.5)
            ink.fill(dots, second)


def make_tube_pattern(pattern: str, colour: Colour) -> TubePattern | None:
    """The pattern for a sleeve or a trouser leg, None for plain cloth."""
    if pattern == "plain":
        return None

    def decorate(ink: Ink, points: Sequence[Point], half: float) -> None:
        across, along, dots = skia.Path(), skia.Path(), skia.Path()
        step = 34.0
        gone = 14.0
        for a, b in pairwise(points):
            length = math.dist(a, b)
            if length < 1e-6:
                continue
            ux, uy = (b[0] - a[0]) / length, (b[1] - a[1]) / length
            while gone < length:
                x, y = a[0] + ux * gone, a[1] + uy * gone
                across.moveTo(x - uy * half * 1.3, y + ux * half * 1.3)
                across.lineTo(x + uy * half * 1.3, y - ux * half * 1.3)
                for v in (-0.55, 0.55):
                    dots.addCircle(x - uy * half * v + ux * 6, y + ux * half * v + uy * 6, 5.5)
                dots.addCircle(x - ux * 9, y - uy * 9, 5.5)
                gone += step
            gone -= length
            for v in (-0.4, 0.4):
                along.moveTo(a[0] - uy * half * v, a[1] + ux * half * v)
                along.lineTo(b[0] - uy * half * v, b[1] + ux * half * v)
        second = find_second_colour(colour)
        if pattern == "striped":
            ink.stroke(across, second, 16)
        elif pattern == "plaid":
            draw_plaid(ink, along, across, colour)
        else:
            ink.fill(dots, second)

    return decorate


def draw_plaid(ink: Ink, upright: skia.Path, level: skia.Path, colour: Colour) -> None:
    """Broad dark bands both ways, and a thin light line in each."""
    dark = darken(colour, 0.55) if sum(colour) / 3 > 70 else (112, 112, 128)
    light = find_second_colour(colour) if sum(colour) / 3 <= 205 else (214, 92, 92)
    for path in (upright, level):
        ink.stroke(path, dark, 11, 0.55)
    both = skia.Path(upright)
    both.addPath(level)
    ink.stroke(both, light, 2.6, 0.7)


def _count(low: float, high: float, step: float) -> list[float]:
    return [low + step * index for index in range(math.ceil((high - low) / step))]


def _extend(points: list[Point]) -> list[Point]:
    """The line, going on straight beyond its ends: over the shoulders."""
    (ax, ay), (bx, by) = points[0], points[-1]
    length = math.hypot(bx - ax, by - ay) or 1.0
    x, y = 70 * (bx - ax) / length, 70 * (by - ay) / length
    return [(ax - x, ay - y), *points, (bx + x, by + y)]


def _go_up(trunk: Trunk, points: list[Point], height: float) -> list[Point]:
    """The line, going on straight along the spine: over the shoulders, not in to the neck."""
    (ax, ay), (bx, by) = trunk.find_centre(0.0), trunk.find_centre(height)
    x, y = points[-1]
    return [*points, (x + bx - ax, y + by - ay)]


def _join(lines: Iterable[list[Point]]) -> skia.Path:
    """One path of many lines."""
    path = skia.Path()
    for points in lines:
        path.moveTo(*points[0])
        for point in points[1:]:
            path.lineTo(*point)
    return path
