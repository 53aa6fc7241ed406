"""Poses: skeletons of 18 keypoints, their pictures, their scores, and the named ones."""

from .drawing import StickStyle, draw_skeleton, draw_whole_body
from .library import NamedPose, draw_pose_thumbnail, find_pose, list_poses
from .reading import read_skeleton
from .scores import score_oks, score_pck
from .skeleton import (
    KEYPOINT_NAMES,
    LIMBS,
    Skeleton,
    find_face,
    find_head,
    fit_skeleton,
    measure_body,
    mirror_skeleton,
    read_keypoints,
    retarget_skeleton,
    scale_to_canvas,
    scale_to_fractions,
    visible_keypoints,
)
from .whole_body import WholeBody

__all__ = [
    "KEYPOINT_NAMES",
    "LIMBS",
    "NamedPose",
    "Skeleton",
    "StickStyle",
    "WholeBody",
    "draw_pose_thumbnail",
    "draw_skeleton",
    "draw_whole_body",
    "find_face",
    "find_head",
    "find_pose",
    "fit_skeleton",
    "list_poses",
    "measure_body",
    "mirror_skeleton",
    "read_keypoints",
    "read_skeleton",
    "retarget_skeleton",
    "scale_to_canvas",
    "scale_to_fractions",
    "score_oks",
    "score_pck",
    "visible_keypoints",
]
