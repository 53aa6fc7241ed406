"""Reading a drawn skeleton back: an OpenPose picture in, 18 keypoints out.

Recognises the drawing, not people: a photograph or a drawing of somebody is not read here.
The body is found as a pictorial structure (Felzenszwalb and Huttenlocher, IJCV 2005): every
joint has a few candidate places where its colour is, every limb scores how well its own colour
joins two of them, and dynamic programming over the tree of limbs finds the best whole. What was
found is drawn again and must match the picture. Fingers and faces that are drawn over it, as DWPose
does, are told by their ink and looked through.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drawing import JOINT_COLOURS, LIMB_COLOURS, draw_skeleton
from .skeleton import LIMBS, NECK, Skeleton, visible_keypoints

_Plane = NDArray[np.float32]

_WORK_SIZE = 512
"""Longer side in pixels at which a picture is read; larger ones are reduced, which also undoes
the coarse colour of JPEG."""

_LIT = 0.25
"""Brightest channel above which a pixel is no background."""

_MOST_LIT = 0.35
"""A skeleton leaves more of the picture black than this leaves."""

_COLOUR_REACH = 0.6
"""Distance in RGB (0..1 each) at which a colour no longer resembles another. Neighbours on the
colour wheel are 0.33 apart, a joint's colour and its darker limb 0.4 or more."""

_MOST_DIFFERENCE = 0.3
"""How far the picture may be from the skeleton drawn again: the share of their light that is not
in both. A second body of the same size makes 0.33."""

_CANDIDATES = 4
"""Places that are considered for each joint."""

_HAND_CANDIDATES = 48
"""And for the left knee and the wrists, where there are the points of two hands, which have its colour."""

_WRISTS, _LEFT_KNEE = (4, 7), 12


def read_skeleton(picture: Image.Image) -> Skeleton | None:
    """Read the keypoints of a skeleton picture, in its own pixels; None for any other picture.

    The picture may have been resized or compressed, its sticks may have any usual width, joints
    may be missing. A joint that lies under another one is found by its limb. Of a picture with
    several bodies nothing is read. A keypoint that was read has confidence 1. Where sticks are
    thinner than about 3 px, JPEG bleaches joints: one or two may then be missing or misplaced; so may
    be a wrist where hands that are drawn too lie over each other.
    """
    scale = min(1.0, _WORK_SIZE / max(picture.size))
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    rgb = picture.convert("RGB")
    small = rgb if scale == 1 else rgb.resize(size, Image.Resampling.BOX, reducing_gap=None)
    pixels = np.asarray(small, dtype=np.float32) / 255
    brightness = pixels.max(axis=2)
    lit = brightness > _LIT
    if not 0.0005 < lit.mean() < _MOST_LIT:
        return None
    radius = _estimate_radius(pixels, brightness)
    if radius is None:
        return None
    ink = _find_hands_and_face(pixels, brightness, radius)
    if ink is not None:
        radius = _estimate_radius(np.where(ink[..., None], 0, pixels), np.where(ink, 0, brightness)) or radius

    # Joints lie within the lit part; what is around it costs time only.
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    top, left = rows[0], columns[0]
    window = pixels[top : rows[-1] + 1, left : columns[-1] + 1]
    joints = np.stack([_resemble(window, colour / 255) for colour in JOINT_COLOURS])
    limbs = np.stack([_resemble(window, colour / 255) for colour in LIMB_COLOURS])
    counts = [_CANDIDATES] * 18
    if ink is not None:
        counts[_LEFT_KNEE] = _HAND_CANDIDATES
    places, scores = _find_candidates(_contrast(joints), radius, counts)
    # Black under a limb speaks against it.
    evidence = _contrast(limbs) - 1.5 * (window.max(axis=2) < _LIT)
    chosen = _choose_places(evidence, places, scores, hands=ink is not None)
    found = np.zeros((18, 3))
    for joint, place in chosen.items():
        found[joint] = (*_centre_joint(joints, joint, place, radius), 1.0)
    found[visible_keypoints(found), :2] += (left, top)
    if not _matches(found, pixels, radius, ink):
        return None
    found[:, :2] *= np.array(picture.size) / size
    return found


def _resemble(pixels: _Plane, colour: NDArray[np.float64]) -> _Plane:
    """How much each pixel is of a colour: 1 the same, 0 unlike it."""
    distance = np.sqrt(((pixels - colour.astype(np.float32)) ** 2).sum(axis=-1))
    return np.maximum(1 - distance / _COLOUR_REACH, 0)


def _contrast(likeness: _Plane) -> _Plane:
    """Likeness to each of several colours, less the lead of the colour that fits best.

    Neighbours on the colour wheel are half alike; where one of them fits better, it counts
    against this one.
    """
    return np.maximum(2 * likeness - likeness.max(axis=0), 0)


def _estimate_radius(pixels: _Plane, brightness: _Plane) -> float | None:
    """The joints' radius in pixels, from the area of each full colour; None when there are none.

    Only joints are brighter than 0.6; blurred edges are darker, never brighter.
    """
    vivid = pixels[(brightness > 0.72) & (pixels.min(axis=2) < 0.35 * brightness)]
    if len(vivid) < 4:
        return None
    nearest = (vivid @ (JOINT_COLOURS / 255).T.astype(np.float32)).astype(np.float32)
    nearest -= 0.5 * ((JOINT_COLOURS / 255) ** 2).sum(axis=1).astype(np.float32)
    areas = np.bincount(nearest.argmax(axis=1), minlength=18)
    return float(np.clip(np.sqrt(np.median(areas[areas > 0]) / np.pi), 1.0, 40.0))


def _find_hands_and_face(pixels: _Plane, brightness: _Plane, radius: float) -> NDArray[np.bool_] | None:
    """The pixels of fingers and face; None where neither is drawn.

    The face is white, which no part of a body is. Fingers are lines of full colour, thinner than a
    joint, between points of the left knee's blue: several times as much of it as of another colour.
    """
    bright, lowest = brightness > 0.72, pixels.min(axis=2)
    white = bright & (lowest > 0.6 * brightness)
    vivid = bright & (lowest < 0.35 * brightness)
    side = max(3, 2 * round(0.3 * radius) + 1)
    joints = _grow(_shrink(vivid, side), side)
    blue = np.zeros_like(vivid)
    blue[vivid] = _resemble(pixels[vivid], JOINT_COLOURS[_LEFT_KNEE] / 255) > 0.7
    areas = [(_resemble(pixels[joints], colour / 255) > 0.7).sum() for colour in JOINT_COLOURS]
    ink = np.zeros_like(bright)
    if blue.sum() > 4 * max(np.median(areas), 1):
        ink |= blue | (vivid & ~_grow(joints, 3))
    if white.sum() > radius**2:
        ink |= white
    return _grow(ink, 3) if ink.any() else None


def _shrink(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The pixels whose side x side neighbours, side odd, are all in the mask."""
    return _average_squares(mask[None], side)[0] > 1 - 0.5 / side**2


def _grow(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The pixels one of whose side x side neighbours, side odd, is in the mask."""
    return _average_squares(mask[None], side)[0] > 0.5 / side**2


def _find_candidates(
    contrast: _Plane, radius: float, counts: list[int]
) -> tuple[list[NDArray], list[NDArray]]:
    """For each joint the best places (x, y) of its colour, at most so many, and how good each is
    (-0.5..0.55)."""
    blurred = _average_squares(contrast, max(1, round(1.4 * radius)))
    places, scores = [], []
    reach = int(np.ceil(2 * radius))
    for plane, count in zip(blurred, counts, strict=True):
        plane = plane.copy()
        best, quality = [], []
        for _ in range(count):
            y, x = np.unravel_index(plane.argmax(), plane.shape)
            if plane[y, x] < 0.3:
                break
            best.append((x + 0.5, y + 0.5))
            # A faint place may be a joint that compression has bleached: a last resort.
            quality.append(plane[y, x] - (0.45 if plane[y, x] > 0.4 else 0.8))
            plane[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 0
        places.append(np.array(best).reshape(-1, 2))
        scores.append(np.array(quality))
    return places, scores


def _average_squares(planes: _Plane, side: int) -> _Plane:
    """Mean of the side x side pixels around each pixel of (n, height, width) planes."""
    before, after = (side - 1) // 2, side // 2
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (before + 1, after)
        sums = np.pad(planes, pad).cumsum(axis=axis, dtype=np.float64)
        length = planes.shape[axis]
        planes = (np.take(sums, range(side, side + length), axis) - np.take(sums, range(length), axis)) / side
    return planes


def _choose_places(
    evidence: _Plane, places: list[NDArray], scores: list[NDArray], hands: bool
) -> dict[int, NDArray[np.float64]]:
    """The best whole body: the place of each joint that is there.

    A joint may also lie under a joint that is drawn after it (at a small cost), or be missing; a wrist
    under the first point of a hand.
    """
    options, unary = [], []
    for joint in range(18):
        covering = [places[later][:1] for later in range(joint + 1, 18) if len(places[later])]
        if hands and joint in _WRISTS:
            covering = [places[_LEFT_KNEE]] if len(places[_LEFT_KNEE]) else []
        covered = np.concatenate(covering) if covering else np.zeros((0, 2))
        options.append(np.concatenate([places[joint], covered]))
        unary.append(np.concatenate([scores[joint], np.full(len(covered), -0.3), [0.0]]))

    # Leaves first; the last option of every joint is "missing".
    best_of_child: dict[int, NDArray[np.int64]] = {}
    for (parent, child), plane in reversed(list(zip(LIMBS, evidence, strict=True))):
        joined = np.zeros((len(options[parent]) + 1, len(options[child]) + 1))
        joined[:-1, :-1] = _score_limbs(plane, options[parent], options[child])
        total = joined + unary[child]
        best_of_child[child] = total.argmax(axis=1)
        unary[parent] = unary[parent] + total.max(axis=1)
    picks = {NECK: int(unary[NECK].argmax())}
    for parent, child in LIMBS:
        picks[child] = int(best_of_child[child][picks[parent]])
    return {joint: options[joint][pick] for joint, pick in picks.items() if pick < len(options[joint])}


def _score_limbs(evidence: _Plane, starts: NDArray, ends: NDArray) -> NDArray[np.float64]:
    """How well a limb joins each start to each end, -1.3..0.7.

    `evidence` is 1 where the limb's own colour is, below 0 on black, which speaks against the limb,
    and 0 on any other colour, which may be drawn over it.
    """
    if not len(starts) or not len(ends):
        return np.zeros((len(starts), len(ends)))
    steps = np.linspace(0.15, 0.85, 22)[:, None, None, None]
    points = starts[:, None] * (1 - steps) + ends[None] * steps
    height, width = evidence.shape
    x = np.clip(points[..., 0].astype(int), 0, width - 1)
    y = np.clip(points[..., 1].astype(int), 0, height - 1)
    return evidence[y, x].mean(axis=0).clip(-1, 1) - 0.3


def _centre_joint(
    likeness: _Plane, joint: int, place: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """The centre of a joint's disc near `place`, where later joints may cover a part of it."""
    reach = int(np.ceil(2.5 * radius)) + 1
    x, y = place.astype(int)
    left, top = max(0, x - reach), max(0, y - reach)
    near = likeness[:, top : y + reach + 1, left : x + reach + 1]
    gain = near[joint] - 0.5
    if joint < 17:
        later = near[joint + 1 :].max(axis=0)
        gain = np.where((later > 0.6) & (later > near[joint]), 0.0, gain)
    if gain.max() <= 0:
        return place
    padded = np.pad(gain, reach, constant_values=-0.25)
    span = np.arange(-reach, reach + 1)
    disc = np.clip(radius + 0.5 - np.hypot(span, span[:, None]), 0, 1)
    patches = np.lib.stride_tricks.sliding_window_view(padded, disc.shape)
    value = np.einsum("abij,ij->ab", patches, disc)
    weight = np.maximum(value - value.max() + 0.6 * radius, 0.0)
    rows, columns = np.indices(value.shape)
    return np.array(
        [
            left + (weight * columns).sum() / weight.sum() + 0.5,
            top + (weight * rows).sum() / weight.sum() + 0.5,
        ]
    )


def _matches(found: Skeleton, pixels: _Plane, radius: float, ink: NDArray[np.bool_] | None) -> bool:
    """Whether drawing the skeleton again gives the picture, near enough, but for what is under `ink`."""
    visible = visible_keypoints(found)
    limbs = sum(bool(visible[start] and visible[end]) for start, end in LIMBS)
    if visible.sum() < 5 or limbs < 4:
        return False
    height, width = pixels.shape[:2]
    drawn = np.asarray(draw_skeleton(found, width, height, radius), dtype=np.float32) / 255
    if ink is not None:
        drawn, pixels = (np.where(ink[..., None], 0, picture) for picture in (drawn, pixels))
    # Both blurred, so that neither a shift of half a pixel nor coarse colour is a difference.
    side = max(3, max(width, height) // 40)
    ours, theirs = (_blur_light(picture, side) for picture in (drawn, pixels))
    difference = np.abs(ours - theirs).sum() / (ours.sum() + theirs.sum())
    return bool(difference < _MOST_DIFFERENCE)


def _blur_light(picture: _Plane, side: int) -> _Plane:
    """The picture without its background (compression leaves specks there), blurred, by channel."""
    lit = np.where(picture.max(axis=2, keepdims=True) > _LIT, picture, 0)
    return _average_squares(np.moveaxis(lit, 2, 0), side)
