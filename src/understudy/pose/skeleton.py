"""A skeleton: 18 OpenPose keypoints of one body, and what is done to them.

A skeleton is a float array of shape (18, 3): x and y in pixels of a canvas, from the top left
corner, and a confidence from 0 to 1, where 0 is a keypoint that is hidden or missing.
This file knows nothing of pictures, names of poses or engines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Skeleton = NDArray[np.float64]

KEYPOINT_NAMES = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
"""OpenPose's COCO model (Cao et al. 2019, arXiv 1812.08008). Right is the body's own right."""

LIMBS = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of keypoints in drawing order: a tree that hangs from the neck, parents first."""

MIRRORED = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
"""For each keypoint its counterpart on the other side of the body."""

NOSE, NECK = 0, 1
SHOULDERS, HIPS, KNEES, ANKLES = (2, 5), (8, 11), (9, 12), (10, 13)
EYES = (14, 15)
FACE = (0, 14, 15, 16, 17)

_TWIN_LIMBS = tuple(
    next(index for index, limb in enumerate(LIMBS) if set(limb) == {MIRRORED[parent], MIRRORED[child]})
    for parent, child in LIMBS
)


def read_keypoints(values: ArrayLike | list) -> Skeleton:
    """An (18, 3) skeleton from 18 keypoints [x, y], [x, y, confidence] or None.

    A keypoint without a confidence has 1, None has 0.

    Raises:
        ValueError: there are not 18, or one is not two or three finite numbers.
    """
    rows = list(values)
    if len(rows) != 18:
        raise ValueError(f"a skeleton has 18 keypoints, not {len(rows)}")
    keypoints = np.zeros((18, 3))
    for row, value in zip(keypoints, rows, strict=True):
        if value is None:
            continue
        numbers = np.asarray(value, dtype=float)
        if numbers.shape not in ((2,), (3,)) or not np.isfinite(numbers).all():
            raise ValueError("a keypoint is [x, y] or [x, y, confidence], finite numbers")
        row[:] = (*numbers, 1.0)[:3]
    return keypoints


def visible_keypoints(keypoints: Skeleton) -> NDArray[np.bool_]:
    """Which of the 18 keypoints are there: confidence above 0."""
    return keypoints[:, 2] > 0


def scale_to_canvas(fractions: Skeleton, width: float, height: float) -> Skeleton:
    """Fractions of a canvas (0..1 from left and top) as pixels of `width` x `height`."""
    return fractions * (width, height, 1.0)


def scale_to_fractions(keypoints: Skeleton, width: float, height: float) -> Skeleton:
    """Pixels of `width` x `height` as fractions of that canvas: undoes `scale_to_canvas`."""
    return keypoints / (width, height, 1.0)


def place_skeleton(skeleton: Skeleton, size: tuple[int, int], canvas: tuple[int, int]) -> Skeleton:
    """A skeleton in pixels of a picture, in pixels of a canvas that holds the whole picture centred."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    shift = ((canvas[0] - scale * size[0]) / 2, (canvas[1] - scale * size[1]) / 2, 0.0)
    return skeleton * (scale, scale, 1.0) + shift


def mirror_skeleton(keypoints: Skeleton, width: float) -> Skeleton:
    """The skeleton as a mirror shows it: x counted from the other edge, left and right swapped."""
    mirrored = keypoints[list(MIRRORED)]
    mirrored[:, 0] = np.where(visible_keypoints(mirrored), width - mirrored[:, 0], 0.0)
    return mirrored


def find_head(keypoints: Skeleton) -> tuple[float, float, float] | None:
    """Where the head is: centre x, centre y and radius in pixels; None when no face point shows.

    The centre is the mean of the face points; the radius reaches almost to the neck, which
    suits the large heads of cartoon characters and leaves hair room on others.
    """
    visible = visible_keypoints(keypoints)
    face = [index for index in FACE if visible[index]]
    if not face:
        return None
    x, y = keypoints[face, :2].mean(axis=0)
    if visible[NECK]:
        radius = 0.95 * float(np.hypot(*(keypoints[NECK, :2] - (x, y))))
    else:
        radius = float(np.hypot(*np.ptp(keypoints[face, :2], axis=0)))
    return float(x), float(y), radius


def find_face(
    keypoints: Skeleton, width: int, height: int, margin: float = 0.3
) -> tuple[int, int, int, int] | None:
    """The square around the face, as far as a picture of `width` x `height` pixels has it.

    Left, top, right, bottom in whole pixels; `margin` is added on each side, in radii of the head
    (`find_head`). None when no face shows: neither nose nor eye is seen, or they lie outside.
    """
    visible = visible_keypoints(keypoints)
    head = find_head(keypoints)
    if head is None or not visible[[NOSE, *EYES]].any():
        return None
    x, y, radius = head
    reach = (1 + margin) * radius
    left, right = (round(min(max(edge, 0), width)) for edge in (x - reach, x + reach))
    top, bottom = (round(min(max(edge, 0), height)) for edge in (y - reach, y + reach))
    return (left, top, right, bottom) if left < right and top < bottom else None


def measure_body(keypoints: Skeleton) -> tuple[float, float, float, float]:
    """The box around the whole body, head and feet included: left, top, right, bottom in pixels.

    Keypoints end at the eyes and the ankles; the head is added as a circle (`find_head`), each
    foot as a quarter of its shin beyond the ankle.

    Raises:
        ValueError: no keypoint is visible.
    """
    visible = visible_keypoints(keypoints)
    if not visible.any():
        raise ValueError("the skeleton has no visible keypoint")
    points = [keypoints[visible, :2]]
    head = find_head(keypoints)
    if head is not None:
        x, y, radius = head
        points.append(np.array([(x - radius, y - 1.2 * radius), (x + radius, y + radius)]))
    for knee, ankle in zip(KNEES, ANKLES, strict=True):
        if visible[knee] and visible[ankle]:
            points.append(1.25 * keypoints[[ankle], :2] - 0.25 * keypoints[[knee], :2])
    everything = np.concatenate(points)
    (left, top), (right, bottom) = everything.min(axis=0), everything.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def measure_torso(keypoints: Skeleton) -> float:
    """Length of the torso in pixels: neck to the middle of the hips.

    Where neck or hips are hidden it is taken as 0.3 of the body's longer side, its share of a
    standing figure.

    Raises:
        ValueError: no keypoint is visible.
    """
    visible = visible_keypoints(keypoints)
    hips = [hip for hip in HIPS if visible[hip]]
    if visible[NECK] and hips:
        length = float(np.hypot(*(keypoints[hips, :2].mean(axis=0) - keypoints[NECK, :2])))
        if length > 0:
            return length
    left, top, right, bottom = measure_body(keypoints)
    return 0.3 * max(right - left, bottom - top, 1e-9)


def measure_stature(keypoints: Skeleton) -> float:
    """How tall the body would stand, in pixels: head, torso, thigh, shin and foot added up.

    Of each pair the longer side counts, since a limb that points at the viewer looks short.
    """
    head = find_head(keypoints)
    above_neck = 0.0
    if head is not None and visible_keypoints(keypoints)[NECK]:
        above_neck = keypoints[NECK, 1] - head[1] if head[1] < keypoints[NECK, 1] else 0.0
        above_neck = max(above_neck, head[2]) + 1.2 * head[2]
    lengths = _limb_lengths(keypoints)
    thigh = np.nanmax([lengths[7], lengths[10], 0.0])
    shin = np.nanmax([lengths[8], lengths[11], 0.0])
    return above_neck + measure_torso(keypoints) + float(thigh + 1.25 * shin)


def fit_skeleton(keypoints: Skeleton, width: float, height: float, margin: float = 0.03) -> Skeleton:
    """Move and scale a skeleton into `width` x `height` pixels, keeping its proportions.

    The body, head and feet included, stays `margin` (a fraction of the shorter side) away from
    every edge. It is no larger than it could be when standing, so that one character crouching
    and jumping stays one size. It is centred from left to right; of the height that is left
    over, a third stays under the feet and two thirds over the head.

    Raises:
        ValueError: no keypoint is visible.
    """
    left, top, right, bottom = measure_body(keypoints)
    edge = margin * min(width, height)
    room_x, room_y = width - 2 * edge, height - 2 * edge
    tall = max(bottom - top, measure_stature(keypoints), 1e-9)
    scale = min(room_x / max(right - left, 1e-9), room_y / tall)
    offset_x = (width - scale * (left + right)) / 2
    spare_y = room_y - scale * (bottom - top)
    offset_y = edge + spare_y * 2 / 3 - scale * top
    fitted = keypoints * (scale, scale, 1.0) + (offset_x, offset_y, 0.0)
    fitted[~visible_keypoints(keypoints)] = 0.0
    return fitted


def retarget_skeleton(keypoints: Skeleton, onto: Skeleton, drawn_from: Skeleton | None = None) -> Skeleton:
    """The same pose with the bone lengths of another body; every bone keeps its direction.

    `onto` is the other body. A flat drawing does not tell a short bone from one that points at
    the viewer: `drawn_from`, the pose's own body in a pose that hides nothing (for a named pose:
    `t_pose`), tells it exactly. Without it the longer one of left and right counts as the bone's
    length. Bones that `onto` or `drawn_from` do not show are scaled by the median of the others.
    The neck stays where it is: fit the result to its canvas afterwards.
    """
    own = _limb_lengths(drawn_from) if drawn_from is not None else _longer_twins(keypoints)
    other = _limb_lengths(onto) if drawn_from is not None else _longer_twins(onto)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = other / own
    ratios[~np.isfinite(ratios) | (ratios <= 0)] = np.nan
    known = ratios[~np.isnan(ratios)]
    ratios = np.where(np.isnan(ratios), np.median(known) if known.size else 1.0, ratios)

    # A hidden keypoint stands where its parent does, so that its children hang from the
    # nearest ancestor that is seen.
    visible = visible_keypoints(keypoints)
    before = keypoints[:, :2].copy()
    if not visible[NECK]:
        anchors = [index for index in SHOULDERS if visible[index]] or np.flatnonzero(visible)
        before[NECK] = before[anchors].mean(axis=0) if len(anchors) else 0.0
    after = before.copy()
    for (parent, child), ratio in zip(LIMBS, ratios, strict=True):
        if not visible[child]:
            before[child], after[child] = before[parent], after[parent]
        else:
            after[child] = after[parent] + ratio * (before[child] - before[parent])
    return np.column_stack([np.where(visible[:, None], after, 0.0), keypoints[:, 2]])


def _limb_lengths(keypoints: Skeleton) -> NDArray[np.float64]:
    """Length of each of the 17 limbs in pixels, NaN where an end is hidden."""
    parents, children = np.array(LIMBS).T
    lengths = np.hypot(*(keypoints[children, :2] - keypoints[parents, :2]).T)
    visible = visible_keypoints(keypoints)
    return np.where(visible[parents] & visible[children], lengths, np.nan)


def _longer_twins(keypoints: Skeleton) -> NDArray[np.float64]:
    lengths = _limb_lengths(keypoints)
    return np.fmax(lengths, lengths[list(_TWIN_LIMBS)])
