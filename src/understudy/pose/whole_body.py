"""A whole body: a skeleton, and the points of hands and face where they are known.

Hands and face are as DWPose and RTMW tell them (Yang et al. 2023, arXiv 2307.15880; Jiang et al. 2024,
arXiv 2407.08634): 21 points of each hand from the wrist to the tips, thumb first, and the 68 points of a
face (Sagonas et al., "300 Faces in-the-Wild", 2013). Like a keypoint each is x, y and a confidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .skeleton import Skeleton, place_skeleton

HAND_LIMBS = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
"""Pairs of a hand's points: five fingers of four joints, each from the wrist."""


@dataclass(frozen=True, eq=False)
class WholeBody:
    """`skeleton` is (18, 3); `hands` (2, 21, 3), the left one first, and `face` (68, 3), or None where
    nothing is known of them. x and y are in pixels of one canvas, confidence 0 is hidden.
    """

    skeleton: Skeleton
    hands: NDArray[np.float64] | None = None
    face: NDArray[np.float64] | None = None

    def scale(self, across: float, down: float) -> WholeBody:
        """The same with x times `across` and y times `down`."""
        return self._map(lambda points: points * (across, down, 1.0))

    def place(self, size: tuple[int, int], canvas: tuple[int, int]) -> WholeBody:
        """The same on a canvas that holds the whole picture of `size` centred (`place_skeleton`)."""
        return self._map(lambda points: place_skeleton(points, size, canvas))

    def _map(self, move: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> WholeBody:
        hands, face = (None if points is None else move(points) for points in (self.hands, self.face))
        return WholeBody(move(self.skeleton), hands, face)
