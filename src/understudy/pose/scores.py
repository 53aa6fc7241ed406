"""How close one skeleton is to another: PCK and OKS, the two scores of the field.

Knows only keypoints; where they come from is the caller's business.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .skeleton import Skeleton, measure_body, measure_torso, visible_keypoints

OKS_SIGMAS = np.array(
    [0.026, 0.079]  # nose, neck
    + [0.079, 0.072, 0.062] * 2  # shoulder, elbow, wrist
    + [0.107, 0.087, 0.089] * 2  # hip, knee, ankle
    + [0.025, 0.025, 0.035, 0.035]  # eyes, ears
)
"""COCO's per-keypoint standard deviations (https://cocodataset.org/#keypoints-eval) for the 18
points. COCO does not annotate the neck: OpenPose takes the middle of the shoulders, whose two
errors go together, so it has the sigma of a shoulder."""

MASK_SHARE = 0.53
"""Area of a person within its box, as evaluators take it where there is no mask (xtcocotools)."""


def score_pck(predicted: Skeleton, truth: Skeleton, threshold: float = 0.1) -> float:
    """Percentage of correct keypoints, 0..1 (Yang and Ramanan, PAMI 2013).

    A keypoint is correct when it lies within `threshold` torso lengths (neck to the middle of
    the hips, of the truth) of the true one. A keypoint that the prediction hides is wrong;
    one that the truth hides does not count. Both in pixels of one canvas.

    Raises:
        ValueError: the truth has no visible keypoint.
    """
    counted = visible_keypoints(truth)
    reach = threshold * measure_torso(truth)
    correct = visible_keypoints(predicted) & (_distances(predicted, truth) <= reach)
    return float(correct[counted].mean())


def score_oks(predicted: Skeleton, truth: Skeleton, area: float | None = None) -> float:
    """Object keypoint similarity, 0..1 (COCO): the mean of exp(-d^2 / (2 area (2 sigma)^2)).

    `area` is the body's in square pixels; without it 0.53 of the box around the true body.
    A keypoint that the prediction hides scores 0; one that the truth hides does not count.
    Both in pixels of one canvas.

    Raises:
        ValueError: the truth has no visible keypoint.
    """
    counted = visible_keypoints(truth)
    if area is None:
        left, top, right, bottom = measure_body(truth)
        area = MASK_SHARE * (right - left) * (bottom - top)
    spread = 2 * max(area, 1e-9) * (2 * OKS_SIGMAS) ** 2
    similarity = np.exp(-(_distances(predicted, truth) ** 2) / spread)
    return float(np.where(visible_keypoints(predicted), similarity, 0.0)[counted].mean())


def _distances(predicted: Skeleton, truth: Skeleton) -> NDArray[np.float64]:
    return np.hypot(*(predicted[:, :2] - truth[:, :2]).T)
