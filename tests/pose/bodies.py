"""Bodies to draw and read in the tests of this folder."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from understudy.pose import Skeleton, StickStyle, find_pose, list_poses, mirror_skeleton

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
