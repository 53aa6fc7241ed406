"""The pen that characters are drawn with: outlined, shaded shapes on a skia canvas.

It draws the same shapes in two ways: as the picture, or as a map of parts where each shape has
the flat number of the part that it belongs to. Knows nothing of bodies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

import skia

Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 255 each."""
Point = tuple[float, float]
"""x to the right and y downwards, in pixels."""


class Part(IntEnum):
    """What a pixel shows."""

    SCENE = 0
    SKIN = 1
    HAIR = 2
    EYES = 3
    MOUTH = 4
    BEARD = 5
    GLASSES = 6
    HAT = 7
    TOP = 8
    LAYER = 9
    BOTTOM = 10
    SHOES = 11
    ACCESSORY = 12


class Ink:
    """Draws shapes of parts.

    `line_width` is that of an outline in pixels. `shadow` is the direction, in pixels, in which
    the shaded side of a shape lies. With `parts` the canvas gets part numbers in its red channel.
    """

    def __init__(
        self,
        canvas: skia.Canvas,
        line_width: float,
        *,
        shading: float = 1.0,
        line_darkness: float = 1.0,
        parts: bool = False,
    ) -> None:
        """`shading` 0 is flat colour, 1 full; `line_darkness` 1 draws the darkest outlines."""
        self.canvas = canvas
        self.line_width = line_width
        self.shading = shading
        self.line_darkness = line_darkness
        self.parts = parts
        self._part = Part.SCENE
        self._paints: dict[tuple[object, ...], skia.Paint] = {}

    @contextmanager
    def of(self, part: Part) -> Iterator[None]:
        """What is drawn within belongs to `part`."""
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    @contextmanager
    def clipped(self, path: skia.Path, *, outside: bool = False) -> Iterator[None]:
        """What is drawn within shows inside `path` only, or outside of it only."""
        kept = skia.ClipOp.kDifference if outside else skia.ClipOp.kIntersect
        self.canvas.save()
        self.canvas.clipPath(path, kept, not self.parts)
        try:
            yield
        finally:
            self.canvas.restore()

    @contextmanager
    def moved(self, x: float, y: float, degrees: float = 0.0, scale: float = 1.0) -> Iterator[None]:
        """What is drawn within has its origin at (x, y), turned clockwise by `degrees`, and `scale`
        pixels for its unit of length; outlines keep their width."""
        line_width = self.line_width
        self.canvas.save()
        self.canvas.translate(x, y)
        self.canvas.rotate(degrees)
        self.canvas.scale(scale, scale)
        self.line_width = line_width / scale
        try:
            yield
        finally:
            self.line_width = line_width
            self.canvas.restore()

    def fill(self, path: skia.Path, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a path. Half-transparent fills (shines, cheeks) leave the map of parts alone."""
        if self.parts and opacity < 0.5:
            return
        self.canvas.drawPath(path, self._paint(colour, opacity))

    def stroke(self, path: skia.Path, colour: Colour, width: float, opacity: float = 1.0) -> None:
        """Draw along a path with round ends and corners."""
        if self.parts and opacity < 0.5:
            return
        paint = self._paint(colour, opacity, width)
        self.canvas.drawPath(path, paint)

    def line(self, points: Sequence[Point], colour: Colour, width: float, opacity: float = 1.0) -> None:
        """Draw straight lines from point to point."""
        path = skia.Path()
        path.moveTo(*points[0])
        for point in points[1:]:
            path.lineTo(*point)
        self.stroke(path, colour, width, opacity)

    def shape(
        self,
        path: skia.Path,
        colour: Colour,
        *,
        shadow: Point | None = None,
        outline: bool = True,
        decorate: Callable[[], None] | None = None,
    ) -> None:
        """A closed shape with its outline around it.

        The side towards `shadow` (an offset in pixels) is shaded. `decorate` draws patterns and
        seams, clipped to the shape.
        """
        if outline:
            self.stroke(path, self.outline_colour(colour), 2 * self.line_width)
        self.fill(path, colour)
        if (shadow is None or not self.shading) and decorate is None:
            return
        with self.clipped(path):
            if decorate is not None:
                decorate()
            if shadow is not None and self.shading and not self.parts:
                lit = skia.Path(path)
                lit.offset(-shadow[0], -shadow[1])
                lit.setFillType(skia.PathFillType.kInverseWinding)
                self.canvas.drawPath(lit, self._paint((40, 20, 60), 0.2 * self.shading))

    def outline_colour(self, colour: Colour) -> Colour:
        """The colour of an outline around `colour`: a dark shade of it, never lighter than dark."""
        brightness = sum(colour) / 3
        if brightness <= 70:
            return (16, 14, 20)
        lift = 1 - self.line_darkness
        share = 0.30 + 0.25 * lift
        return (colour[0] * share + 8, colour[1] * (share - 0.03) + 6, colour[2] * (share + 0.02) + 10)

    def _paint(self, colour: Colour, opacity: float, width: float | None = None) -> skia.Paint:
        """What fills with a colour, or strokes where there is a width. Kept: most are used again."""
        key = (self._part, width) if self.parts else (colour, opacity, width)
        paint = self._paints.get(key)
        if paint is None:
            paint = self._paints[key] = self._mix_paint(colour, opacity)
            if width is not None:
                paint.setStyle(skia.Paint.kStroke_Style)
                paint.setStrokeWidth(width)
                paint.setStrokeCap(skia.Paint.kRound_Cap)
                paint.setStrokeJoin(skia.Paint.kRound_Join)
        return paint

    def _mix_paint(self, colour: Colour, opacity: float) -> skia.Paint:
        if self.parts:
            return skia.Paint(Color=skia.Color(int(self._part), 0, 0, 255), AntiAlias=False)
        red, green, blue = (int(min(255, max(0, value))) for value in colour)
        return skia.Paint(Color=skia.Color(red, green, blue, round(255 * opacity)), AntiAlias=True)


def darken(colour: Colour, share: float) -> Colour:
    """The colour with its values times `share`."""
    return (colour[0] * share, colour[1] * share, colour[2] * share)


def mix_colours(first: Colour, second: Colour, share: float) -> Colour:
    """The colour at `share` of the way from the first to the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def mix(first: Point, second: Point, share: float) -> Point:
    """The point at `share` of the way from the first to the second."""
    return (first[0] + (second[0] - first[0]) * share, first[1] + (second[1] - first[1]) * share)


def make_polygon(points: Sequence[Point]) -> skia.Path:
    """A closed path of straight lines."""
    path = skia.Path()
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)
    path.close()
    return path


def make_blob(points: Sequence[Point]) -> skia.Path:
    """A closed smooth path that the points pull towards themselves."""
    count = len(points)
    middles = [mix(points[i], points[(i + 1) % count], 0.5) for i in range(count)]
    path = skia.Path()
    path.moveTo(*middles[-1])
    for point, middle in zip(points, middles, strict=True):
        path.quadTo(*point, *middle)
    path.close()
    return path


def make_oval(x: float, y: float, half_width: float, half_height: float) -> skia.Path:
    """An ellipse around (x, y)."""
    path = skia.Path()
    path.addOval(skia.Rect(x - half_width, y - half_height, x + half_width, y + half_height))
    return path


def make_arc(
    x: float, y: float, half_width: float, half_height: float, start: float, sweep: float
) -> skia.Path:
    """A piece of an ellipse around (x, y): degrees clockwise from the right."""
    path = skia.Path()
    path.addArc(skia.Rect(x - half_width, y - half_height, x + half_width, y + half_height), start, sweep)
    return path


def make_curve(points: Sequence[Point]) -> skia.Path:
    """An open smooth path from the first point to the last, pulled by those between."""
    path = skia.Path()
    path.moveTo(*points[0])
    for index in range(1, len(points) - 2):
        path.quadTo(*points[index], *mix(points[index], points[index + 1], 0.5))
    if len(points) > 2:
        path.quadTo(*points[-2], *points[-1])
    else:
        path.lineTo(*points[-1])
    return path


def add_polygon(path: skia.Path, points: Sequence[Point]) -> None:
    """Add a closed polygon to a path, always in the same sense, so that polygons and ovals of one
    path unite."""
    twice_area = sum(
        ax * by - bx * ay for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True)
    )
    if twice_area < 0:
        points = points[::-1]
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)
    path.close()


def make_limb(points: Sequence[Point], half_widths: Sequence[float]) -> skia.Path:
    """One smooth outline around a chain of discs: the union of discs and what joins them."""
    path = skia.Path()
    for (x, y), half in zip(points, half_widths, strict=True):
        path.addCircle(x, y, half)
    for index in range(len(points) - 1):
        (ax, ay), (bx, by) = points[index], points[index + 1]
        length = math.hypot(bx - ax, by - ay)
        if length < 1e-6:
            continue
        nx, ny = -(by - ay) / length, (bx - ax) / length
        a, b = half_widths[index], half_widths[index + 1]
        path.moveTo(ax - nx * a, ay - ny * a)
        path.lineTo(bx - nx * b, by - ny * b)
        path.lineTo(bx + nx * b, by + ny * b)
        path.lineTo(ax + nx * a, ay + ny * a)
        path.close()
    return path
