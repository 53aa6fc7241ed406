"""Hair in tufts: balls of curly hair, spikes, the crest of a mohawk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skia

from .hairlines import SKULL, find_hat_line, trace_hairline
from .ink import add_polygon, make_arc, make_limb
from .look import Look

TUFTED = ("curly", "afro", "spiky", "mohawk")


@dataclass(frozen=True)
class _Tuft:
    """A ball of hair or, with a tip, a spike: places on the head (around, height, distance)."""

    place: tuple[float, float, float]
    size: float
    tip: tuple[float, float, float] | None = None
    curled: bool = False


@dataclass(frozen=True)
class _Mane:
    """Tufts all over a head: `room` is kept between the hairline and their middles; a ring of
    tufts of `ring_size` lies along the forehead."""

    count: int
    shell: float
    lift: float
    size: float
    room: float
    ring_size: float


_MANES = {
    "curly": _Mane(50, 1.02, 0.03, 0.235, 0.2, 0.15),
    "afro": _Mane(54, 1.25, 0.14, 0.27, 0.26, 0.17),
    "spiky": _Mane(44, 1.0, 0.0, 0.24, 0.3, 0.0),
}


def add_tufts(path: skia.Path, hair: str, hat: str, look: Look, *, near: bool) -> None:
    """Add the tufts that stand on the side of the head towards the viewer, or on the other one."""
    for tuft in _make_tufts(hair, hat):
        x, y, depth = look.place(*tuft.place)
        if near != (depth > -0.12):
            continue
        if tuft.tip is None:
            path.addCircle(x, y, tuft.size)
            continue
        tip_x, tip_y, _ = look.place(*tuft.tip)
        length = max(math.hypot(tip_x - x, tip_y - y), 1e-3)
        across_x, across_y = -(tip_y - y) / length * tuft.size, (tip_x - x) / length * tuft.size
        middle_x, middle_y = (x + tip_x) / 2, (y + tip_y) / 2
        add_polygon(
            path,
            [
                (x - across_x, y - across_y),
                (middle_x - across_x * 0.62, middle_y - across_y * 0.62),
                (tip_x, tip_y),
                (middle_x + across_x * 0.62, middle_y + across_y * 0.62),
                (x + across_x, y + across_y),
            ],
        )
    if hair == "mohawk" and near:
        ridge = [look.place(*_find_ridge(degrees, SKULL)) for degrees in range(38, 208, 10)]
        seen = [point[:2] for point in ridge if point[2] > -0.05]
        if len(seen) > 1:
            path.addPath(make_limb(seen, [0.13] * len(seen)))


def add_curls(path: skia.Path, hair: str, hat: str, look: Look) -> None:
    """Add the lines of curls on the tufts of curly hair."""
    for index, tuft in enumerate(_make_tufts(hair, hat)):
        if not tuft.curled:
            continue
        x, y, depth = look.place(*tuft.place)
        if depth > 0.35:
            size = tuft.size * 0.62
            path.addPath(make_arc(x, y, size, size * 0.9, (index * 77) % 360, 165))


@lru_cache(maxsize=32)
def _make_tufts(hair: str, hat: str) -> tuple[_Tuft, ...]:
    if hair == "mohawk":
        return tuple(_make_crest())
    mane = _MANES[hair]
    around, height = trace_hairline(hair)
    tufts = []
    for index in range(mane.count):
        # A Fibonacci sphere spreads directions evenly.
        up = 1 - 2 * (index + 0.5) / mane.count
        angle = (index * 137.50776) % 360 - 180
        if up < np.interp(angle, around, height) + mane.room - (0.06 if abs(angle) > 100 else 0):
            continue
        level = math.sqrt(1 - up * up)
        place = (angle, mane.shell * up + mane.lift, mane.shell * level)
        tip = (angle * 1.02, up * 1.36 + 0.12, 1.36 * level) if hair == "spiky" else None
        tufts.append(_Tuft(place, mane.size, tip, curled=tip is None))
    if hair == "spiky":
        tufts += [_Tuft((a, 0.62, 0.78), 0.2, (a + 8, 1.1, 1.12)) for a in (-48, -25, 0, 25, 48)]
    else:
        for angle in range(-66, 67, 12):
            up = float(np.interp(angle, around, height)) + mane.ring_size * 0.45
            tufts.append(_Tuft((angle, up, math.sqrt(max(0.1, 1.08 - up * up))), mane.ring_size))
    if hat:
        line = find_hat_line(hat)
        tufts = [tuft for tuft in tufts if tuft.place[1] < np.interp(tuft.place[0], *line) - 0.1]
    return tuple(tufts)


def _find_ridge(degrees: float, distance: float) -> tuple[float, float, float]:
    """A place over the middle of the head, `degrees` above the face's own direction."""
    angle = math.radians(degrees)
    return (0.0 if degrees < 90 else 180.0), distance * math.sin(angle), abs(distance * math.cos(angle))


def _make_crest() -> list[_Tuft]:
    """The spikes of a mohawk, from the forehead over the top to the nape."""
    crest = []
    for index in range(12):
        degrees = 36 + 170 * index / 11
        length = 1.52 + 0.07 * (index % 2) - 0.014 * max(0, index - 6) ** 2
        crest.append(_Tuft(_find_ridge(degrees, 0.92), 0.2, _find_ridge(degrees + 6, length)))
    return crest
