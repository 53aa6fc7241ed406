"""Outlines of soft shapes: a trunk's, a hull around points, corners cut round."""

from __future__ import annotations

import itertools
import math

import skia

from .body import Trunk
from .ink import Point, mix
from .limbs import turn_clockwise


def outline_trunk(trunk: Trunk, heights: list[float]) -> list[list[Point]]:
    """The four sides of a trunk: up one side, over the top, down the other, the hem's front."""
    sides = [trunk.find_sides(height) for height in heights]
    up, down = [side[0] for side in sides], [side[1] for side in sides][::-1]
    rim = trunk.trace_rim(heights[0], 7)
    if math.dist(rim[0], down[-1]) > math.dist(rim[-1], down[-1]):
        rim.reverse()
    return [up, down, rim]


def add_outline(path: skia.Path, sides: list[list[Point]]) -> None:
    """Add a smooth, clockwise outline with corners where the sides meet."""
    up, down, rim = sides
    if turn_clockwise([*up, *down]) != [*up, *down]:
        up, down, rim = down[::-1], up[::-1], rim[::-1]
    path.moveTo(*up[0])
    curve_through(path, up)
    path.lineTo(*down[0])
    curve_through(path, down)
    for point in rim[1:]:
        path.lineTo(*point)
    path.close()


def curve_through(path: skia.Path, points: list[Point]) -> None:
    """Go on from the first point to the last, pulled by those between."""
    for first, second in itertools.pairwise(points):
        middle = second if second is points[-1] else mix(first, second, 0.5)
        path.quadTo(*first, *middle)


def find_hull(points: list[Point]) -> list[Point]:
    """The convex hull (Andrew's monotone chain)."""
    ordered = sorted(set(points))

    def walk(line: list[Point]) -> list[Point]:
        found: list[Point] = []
        for x, y in line:
            while len(found) > 1:
                (ax, ay), (bx, by) = found[-2], found[-1]
                if (bx - ax) * (y - by) - (by - ay) * (x - bx) > 0:
                    break
                found.pop()
            found.append((x, y))
        return found[:-1]

    return walk(ordered) + walk(ordered[::-1])


def round_corners(points: list[Point], radius: float) -> skia.Path:
    """A closed path whose corners are cut by curves."""
    path = skia.Path()
    count = len(points)
    for index, corner in enumerate(points):
        before, after = points[index - 1], points[(index + 1) % count]
        a = mix(corner, before, min(0.5, radius / (math.dist(corner, before) + 1e-9)))
        b = mix(corner, after, min(0.5, radius / (math.dist(corner, after) + 1e-9)))
        if index == 0:
            path.moveTo(*a)
        else:
            path.lineTo(*a)
        path.quadTo(*corner, *b)
    path.close()
    return path
