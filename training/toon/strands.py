"""The lines in hair: how it is combed, parted and curled."""

from __future__ import annotations

import math

import skia

from .ink import make_curve
from .look import Look
from .tufts import add_curls

Strand = tuple[tuple[float, float], ...]
"""Places on the hair that a line runs through: degrees around the head, height in head radii."""


def _mirror(strands: tuple[Strand, ...]) -> tuple[Strand, ...]:
    return strands + tuple(tuple((-around, height) for around, height in strand) for strand in strands)


def _fall(around: float, top: float, bottom: float) -> Strand:
    """A line that hangs down."""
    return (around, top), (around + 1.5, (top + bottom) / 2), (around, bottom)


def _wave(around: float, top: float, bottom: float, width: float) -> Strand:
    """A line that winds its way down."""
    return tuple((around + width * math.sin(1.05 * i), top + (bottom - top) * i / 6) for i in range(7))


_CROPPED = (*_mirror((_fall(150, 0.1, -0.45), _fall(122, 0.4, -0.15))), _fall(180, 0.2, -0.5))
_COMBED_BACK = _mirror((((40, 0.45), (46, 0.75)), ((80, 0.45), (92, 0.75)), ((130, 0.1), (149, 0.5))))
_PARTED = (
    *_mirror((((32, 0.75), (40, 0.4)), ((64, 0.75), (80, 0.4)), ((104, 0.75), (130, 0.4)))),
    ((0, 0.74), (0, 0.9), (0, 1.03)),
    ((180, 0.95), (180, 0.5), (180, 0.0), (180, -0.64)),
)
_LOOSE = (
    ((8, 0.82), (9, 0.93), (10, 1.02)),
    ((-10, 0.86), (-32, 0.76), (-48, 0.5)),
    ((24, 0.86), (40, 0.76), (52, 0.5)),
)

_STRANDS: dict[str, tuple[Strand, ...]] = {
    "short": (*_CROPPED, ((-30, 0.85), (-37, 0.74), (-40, 0.6)), ((-5, 0.88), (-11, 0.78), (-14, 0.66)),
        ((25, 0.85), (19, 0.78), (16, 0.68))),
    "side-parted": (*_CROPPED, ((31, 0.84), (36, 0.93), (40, 0.98)), ((20, 0.86), (-10, 0.8), (-40, 0.6)),
        ((15, 0.78), (-2, 0.7), (-20, 0.58))),
    "pixie": (*_CROPPED, ((30, 0.86), (0, 0.78), (-40, 0.52)), ((36, 0.78), (42, 0.9), (46, 0.96))),
    "wavy": _mirror((_wave(20, 0.92, 0.6, 5), _wave(62, 0.75, 0.25, 6), _wave(105, 0.5, -0.4, 6),
        _wave(140, 0.6, -0.4, 6), _wave(172, 0.4, -0.5, 6))),
    "bob": _mirror((_fall(100, 0.3, -0.55), _fall(122, 0.1, -0.6), _fall(150, 0.4, -0.6),
        _fall(176, 0.5, -0.6))),
    "long": (*_LOOSE, *_mirror((_fall(76, 0.0, -1.2), _fall(100, 0.3, -1.3), _fall(125, 0.0, -1.55),
        _fall(150, 0.4, -1.4), _fall(175, 0.5, -1.6)))),
    "long wavy": (*_LOOSE, *_mirror((_wave(80, 0.0, -1.2, 5), _wave(108, 0.3, -1.3, 6),
        _wave(138, 0.4, -1.4, 6), _wave(170, 0.3, -1.3, 6)))),
    "ponytail": _COMBED_BACK,
    "bun": _COMBED_BACK,
    "pigtails": _PARTED,
    "braids": _PARTED,
}  # fmt: skip


def trace_strands(hair: str, hat: str, look: Look, *, mirrored: bool) -> skia.Path:
    """The lines that are seen in a style of hair; `mirrored` as of its hairline."""
    path = skia.Path()
    side = -1 if mirrored else 1
    for strand in _STRANDS.get(hair, ()):
        points = [
            look.place(side * around, height, math.sqrt(max(0.02, 1.12 - max(0.0, height) ** 2)))
            for around, height in strand
        ]
        if points[0][2] > 0.05 and points[-1][2] > 0.1:
            path.addPath(make_curve([point[:2] for point in points]))
    if hair in ("curly", "afro"):
        add_curls(path, hair, hat, look)
    return path
