"""A picture of a person or character -> the body in it.

A model finds people: `people.py` has that of rtmlib, `toon_detector.py` the embedded engine's own.
This file knows nothing of canvases: a body is in pixels of the picture it was found in.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

import numpy
from numpy.typing import NDArray
from PIL import Image

from ..pose.skeleton import Skeleton, visible_keypoints
from ..pose.whole_body import WholeBody
from ..settings import Settings
from ..weights import POSE, WeightsMissing, find_folder
from . import EngineError

logger = logging.getLogger(__name__)

LEAST_CONFIDENCE = 0.3
"""A point below it counts as hidden: RTMPose's own threshold for showing one."""

LEAST_KEYPOINTS = 5
"""Fewer visible keypoints are not taken for a body."""

LEAST_SHARE = 0.5
"""A hand or a face that shows fewer of its points is left out: what is told of it is mostly guessed."""

WRISTS = (7, 4)
"""The left one and the right one, as hands are told."""

PoseModel = Callable[[NDArray[numpy.uint8]], tuple[NDArray[numpy.float64], NDArray[numpy.float64]]]
"""BGR picture (height, width, 3) -> points (people, k, 2) in pixels and scores (people, k), in OpenPose's
order as rtmlib tells it: 18 keypoints and, where k is 134, 6 of the feet, 68 of the face and 21 of each
hand, the left one first."""


class PoseDetector:
    """Finds the largest person in a picture."""

    def __init__(self, model: PoseModel, least_confidence: float = LEAST_CONFIDENCE) -> None:
        """Points whose score is below `least_confidence` count as hidden."""
        self._model = model
        self._least_confidence = least_confidence

    def find_body(self, picture: Image.Image) -> WholeBody:
        """The largest person, in pixels of the picture; hands and face where the model tells them.

        Raises:
            EngineError: nobody is found (`no_person_found`).
        """
        blue_first = numpy.ascontiguousarray(numpy.asarray(picture.convert("RGB"))[..., ::-1])
        people = [
            self._hide_doubtful(numpy.column_stack(person).astype(float))
            for person in zip(*self._model(blue_first), strict=True)
        ]
        people = [person for person in people if visible_keypoints(person[:18]).sum() >= LEAST_KEYPOINTS]
        if not people:
            raise EngineError(
                "Nobody was found in input_image; send a picture that shows one whole person or "
                "character, an OpenPose skeleton picture, or the parameter pose.",
                code="no_person_found",
            )
        return _read_body(max(people, key=lambda person: _measure_area(person[:18])))

    def find_skeleton(self, picture: Image.Image) -> Skeleton:
        """The 18 keypoints of the largest person, (18, 3) in pixels of the picture.

        Raises:
            EngineError: nobody is found (`no_person_found`).
        """
        return self.find_body(picture).skeleton

    def _hide_doubtful(self, points: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        """The points (k, 3) with those zeroed that are doubtful; confidences are 1 at most."""
        doubtful = points[:, 2] < self._least_confidence
        return numpy.where(doubtful[:, None], 0.0, numpy.minimum(points, (numpy.inf, numpy.inf, 1.0)))


def is_detector_installed(settings: Settings | None = None) -> bool:
    """Whether rtmlib and the files of its models are there; nothing is loaded."""
    if importlib.util.find_spec("rtmlib") is None:
        return False
    try:
        find_folder(settings or Settings(), "pose_detector", POSE)
    except WeightsMissing:
        return False
    return True


def load_detector(settings: Settings | None = None, device: str = "cpu") -> PoseDetector:
    """Load the detector of people that the settings name, those of the environment when not given.

    `device` is `cpu`, `cuda`, `cuda:1` or `mps`, as onnxruntime is installed for.

    Raises:
        EngineError: rtmlib is not installed (`pose_detector_missing`), or its models are not on this
            machine, are not what was published, or cannot be loaded (`pose_detector_failed`).
    """
    if importlib.util.find_spec("rtmlib") is None:
        raise EngineError(
            "input_image is not a skeleton picture, and finding a pose in other pictures needs the "
            'pose detector: run `pip install "understudy[pose]"` and `understudy fetch pose`, or send an '
            "OpenPose skeleton picture or the parameter pose.",
            code="pose_detector_missing",
        )
    settings = settings or Settings()
    try:
        folder = find_folder(settings, "pose_detector", POSE)
    except WeightsMissing as error:
        words = f"{error.message} An OpenPose skeleton picture or the parameter pose needs no detector."
        raise EngineError(words, code="pose_detector_failed") from None
    from .people import load_people_model

    paths = (folder / settings.pose_person_model, folder / settings.pose_model)
    confidence = settings.pose_least_confidence
    try:
        model = load_people_model(*paths, confidence, device)
    except EngineError:
        raise
    except Exception as error:
        logger.warning("the pose detector could not be loaded: %s", error, exc_info=error)
        raise EngineError(
            "The pose detector's models could not be loaded to read input_image (the worker's log "
            "tells more); send an OpenPose skeleton picture or the parameter pose instead.",
            code="pose_detector_failed",
        ) from error
    return PoseDetector(model, confidence)


def _read_body(points: NDArray[numpy.float64]) -> WholeBody:
    skeleton = points[:18]
    if len(points) < 134:
        return WholeBody(skeleton)
    face, hands = points[24:92], points[92:134].reshape(2, 21, 3).copy()
    for hand, wrist in zip(hands, WRISTS, strict=True):
        if skeleton[wrist, 2] == 0 or not _shows_enough(hand):
            hand[:] = 0.0
    return WholeBody(
        skeleton,
        hands if hands[..., 2].any() else None,
        face if _shows_enough(face) else None,
    )


def _shows_enough(points: NDArray[numpy.float64]) -> bool:
    return bool(visible_keypoints(points).mean() >= LEAST_SHARE)


def _measure_area(skeleton: Skeleton) -> float:
    """Area in square pixels of the box around the visible keypoints."""
    return float(numpy.prod(numpy.ptp(skeleton[visible_keypoints(skeleton), :2], axis=0)))
