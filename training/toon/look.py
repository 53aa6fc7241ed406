"""Where a head is in the picture and how it is turned: from places on a head to the picture.

Places on a head are cylinder coordinates, as those of the face in `understudy.pose.rig`: degrees
around the head from the nose (positive to the body's left), height over its centre and distance
from its axis, both in head radii. A seen place is x to the right, y downwards, in head radii from
the head's centre and before its roll, and its depth towards the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SHADOW = (0.14, 0.1)

Seen = tuple[float, float, float]
"""x, y and depth of a place."""
Row = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """A head's centre and radius in pixels, and how it is turned in degrees.

    yaw    0 faces the viewer, 90 the right of the picture, 180 away
    nod    positive is up
    roll   clockwise
    """

    x: float
    y: float
    radius: float
    yaw: float = 0.0
    nod: float = 0.0
    roll: float = 0.0

    @cached_property
    def facing(self) -> float:
        """How much the face is turned to the viewer: 1 frontal, 0 in profile, -1 away."""
        return math.cos(math.radians(self.yaw))

    @cached_property
    def aside(self) -> float:
        """How much the face is turned to the right of the picture: -1 to 1."""
        return math.sin(math.radians(self.yaw))

    @cached_property
    def raised(self) -> float:
        """The sine of the nod."""
        return math.sin(math.radians(self.nod))

    @cached_property
    def _level(self) -> float:
        return math.cos(math.radians(self.nod))

    def place(self, around: float, height: float, distance: float = 1.0) -> Seen:
        """Where a place on the head is seen."""
        angle = math.radians(around)
        x, z = distance * math.sin(angle), distance * math.cos(angle)
        up, forward = self._level * height + self.raised * z, self._level * z - self.raised * height
        return self.facing * x + self.aside * forward, -up, self.facing * forward - self.aside * x

    def place_all(self, around: Row, height: Row, distance: Row | float) -> tuple[Row, Row, Row]:
        """Where places on the head are seen: x, y and depth of each."""
        angle = np.radians(around)
        x, z = distance * np.sin(angle), distance * np.cos(angle)
        up, forward = self._level * height + self.raised * z, self._level * z - self.raised * height
        return self.facing * x + self.aside * forward, -up, self.facing * forward - self.aside * x


def turn_shadow(look: Look) -> tuple[float, float]:
    """Where the shaded side of a head's shapes lies: the light comes from the upper left of the
    picture, however the head is turned."""
    turned = math.radians(-look.roll)
    x, y = _SHADOW
    return x * math.cos(turned) - y * math.sin(turned), x * math.sin(turned) + y * math.cos(turned)
