"""Bodies to draw and read in the tests of this folder."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from understudy.pose import Skeleton, StickStyle, WholeBody, find_head, find_pose, list_poses, mirror_skeleton
from understudy.pose.skeleton import measure_torso

POSE_NAMES = [pose.name for pose in list_poses()]

styles = st.sampled_from(list(StickStyle))


@st.composite
def posed_bodies(draw: st.DrawFn, size: int) -> Skeleton:
    """A named pose somewhere on a square canvas, mirrored or not, every joint moved a little."""
    keypoints = find_pose(draw(st.sampled_from(POSE_NAMES))).keypoints.copy()
    if draw(st.booleans()):
        keypoints = mirror_skeleton(keypoints, 1)
    scale = draw(st.floats(0.75, 1.0))
    shift = draw(st.floats(0, 1 - scale))
    jitter = draw(st.integers(0, 2**32 - 1))
    noise = np.random.default_rng(jitter).uniform(-0.008, 0.008, (18, 2))
    keypoints[:, :2] = (keypoints[:, :2] + noise) * scale + shift
    return np.where(keypoints[:, 2:] > 0, keypoints * (size, size, 1), 0.0)


def compress(picture: Image.Image, file_format: str, quality: int) -> Image.Image:
    """The picture after a trip through a lossy file."""
    file = io.BytesIO()
    picture.save(file, file_format, quality=quality)
    return Image.open(file).convert("RGB")


def with_hands_and_face(keypoints: Skeleton) -> WholeBody:
    """The body with open hands at the ends of its forearms and a face on its head."""
    hands = np.zeros((2, 21, 3))
    torso = measure_torso(keypoints)
    for hand, (elbow, wrist) in zip(hands, ((6, 7), (3, 4)), strict=True):
        if (keypoints[[elbow, wrist], 2] == 0).any():
            continue
        along = keypoints[wrist, :2] - keypoints[elbow, :2]
        along *= 0.1 * torso / max(np.hypot(*along), 1e-9)
        across = along[::-1] * (1, -1)
        hand[0] = keypoints[wrist]
        for joint in range(20):
            finger, segment = divmod(joint, 4)
            place = along * (1.2 + 0.7 * segment) + across * 0.5 * (finger - 2) * (1 + 0.3 * segment)
            hand[1 + joint] = (*(keypoints[wrist, :2] + place), 1)
    head = find_head(keypoints)
    if head is None:
        return WholeBody(keypoints, hands)
    x, y, radius = head
    face = np.ones((68, 3))
    turns = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    rings = 0.75 * radius * np.where(np.arange(68) % 2, 0.45, 1.0)
    face[:, :2] = np.stack([x + rings * np.cos(turns), y + rings * np.sin(turns)], axis=1)
    return WholeBody(keypoints, hands, face)
