"""A picture of a person or character -> its skeleton, by the optional rtmlib.

rtmlib (RTMPose, Jiang et al. 2023, arXiv 2303.07399) comes with `understudy[pose]`; without it
everything else works. It fetches its ONNX models once, unless their files are named.
This file knows nothing of canvases: a skeleton is in pixels of the picture it was found in.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

import numpy
from numpy.typing import NDArray
from PIL import Image

from ..pose.skeleton import Skeleton, visible_keypoints
from . import EngineError

logger = logging.getLogger(__name__)

LEAST_CONFIDENCE = 0.3
"""A keypoint below it counts as hidden: RTMPose's own threshold for showing one."""

LEAST_KEYPOINTS = 5
"""Fewer visible keypoints are not taken for a body."""

PoseModel = Callable[[NDArray[numpy.uint8]], tuple[NDArray[numpy.float64], NDArray[numpy.float64]]]
"""BGR picture (height, width, 3) -> keypoints (people, k, 2) in pixels and scores (people, k),
k >= 18, the first 18 in OpenPose's order: what rtmlib's solutions return with `to_openpose=True`."""


class PoseDetector:
    """Finds the skeleton of the largest person in a picture."""

    def __init__(self, model: PoseModel) -> None:
        self._model = model

    def find_skeleton(self, picture: Image.Image) -> Skeleton:
        """The 18 keypoints of the largest person, (18, 3) in pixels of the picture.

        Raises:
            EngineError: nobody is found (`no_person_found`).
        """
        blue_first = numpy.ascontiguousarray(numpy.asarray(picture.convert("RGB"))[..., ::-1])
        points, scores = self._model(blue_first)
        people = [
            skeleton
            for skeleton in map(_to_skeleton, points, scores)
            if visible_keypoints(skeleton).sum() >= LEAST_KEYPOINTS
        ]
        if not people:
            raise EngineError(
                "Nobody was found in input_image; send a picture that shows one whole person or "
                "character, an OpenPose skeleton picture, or the parameter pose.",
                code="no_person_found",
            )
        return max(people, key=_measure_area)


def is_detector_installed() -> bool:
    """Whether rtmlib is there; it is not imported."""
    return importlib.util.find_spec("rtmlib") is not None


def load_detector(
    person_model: str | None = None, pose_model: str | None = None, device: str = "cpu"
) -> PoseDetector:
    """Load rtmlib's body detector.

    `person_model` (YOLOX, 640 x 640) and `pose_model` (RTMPose, 192 x 256) are paths or URLs of
    ONNX files; without them rtmlib's own are fetched once and kept.

    Raises:
        EngineError: rtmlib is not installed (`pose_detector_missing`), or its models cannot be
            loaded (`pose_detector_failed`).
    """
    if not is_detector_installed():
        raise EngineError(
            "input_image is not a skeleton picture, and finding a pose in other pictures needs the "
            'pose detector: run `pip install "understudy[pose]"`, or send an OpenPose skeleton '
            "picture or the parameter pose.",
            code="pose_detector_missing",
        )
    try:
        from rtmlib import Body

        model = Body(
            det=person_model,
            det_input_size=(640, 640),
            pose=pose_model,
            pose_input_size=(192, 256),
            mode="balanced",
            to_openpose=True,
            backend="onnxruntime",
            device=device,
        )
    except Exception as error:
        logger.warning("the pose detector could not be loaded: %s", error, exc_info=error)
        raise EngineError(
            "The pose detector's models could not be loaded to read input_image (the worker's log "
            "tells more); send an OpenPose skeleton picture or the parameter pose instead.",
            code="pose_detector_failed",
        ) from error
    return PoseDetector(model)


def _to_skeleton(points: NDArray[numpy.float64], scores: NDArray[numpy.float64]) -> Skeleton:
    skeleton = numpy.column_stack([points[:18], numpy.clip(scores[:18], 0, 1)]).astype(float)
    skeleton[skeleton[:, 2] < LEAST_CONFIDENCE] = 0.0
    return skeleton


def _measure_area(skeleton: Skeleton) -> float:
    """Area in square pixels of the box around the visible keypoints."""
    return float(numpy.prod(numpy.ptp(skeleton[visible_keypoints(skeleton), :2], axis=0)))
