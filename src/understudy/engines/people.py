"""Whole bodies in photographs and drawings, by the optional rtmlib (`understudy[pose]`).

Two networks as ONNX files: one finds people (YOLOX, Ge et al. 2021, arXiv 2107.08430, trained on drawn ones
too: HumanArt, Ju et al. 2023, arXiv 2303.02760), the other tells 133 points of each (RTMW, Jiang et al. 2024,
arXiv 2407.08634). They come by `understudy fetch pose`; nothing is downloaded here.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from . import EngineError
from .detector import LEAST_KEYPOINTS

if TYPE_CHECKING:
    from rtmlib import YOLOX, RTMPose

DIGESTS = {
    "yolox_m_8xb8-300e_humanart-c2c7a14a.zip": (
        "a000224fd8ba283202bc62d4a5fcdfe353adb9f468777dbac1ea2ada2093adde"
    ),
    "rtmw-dw-x-l_simcc-cocktail14_270e-256x192_20231122.zip": (
        "1e3e77558dfc199129bfff1c583e51b4ee190914de6ae30688243c20163c148c"
    ),
    "rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.zip": (
        "a87e1af41a0a067776dba7d46e1c21c8f6e9f18e247e0e606718dd1f31e96ffd"
    ),
}
"""SHA-256 of published files by their names; a file of another name is the operator's own."""

MOST_PEOPLE = 3
"""The largest people of a picture, of whom the points are looked for: a box may hold nobody."""


class PeopleModel:
    """The two networks as a model of `PoseDetector`."""

    def __init__(self, person_model: YOLOX, pose_model: RTMPose, least_confidence: float) -> None:
        self._person_model = person_model
        self._pose_model = pose_model
        self._least_confidence = least_confidence

    def __call__(
        self, picture: NDArray[numpy.uint8]
    ) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
        """Points (people, 134, 2) and scores (people, 134) of the largest people of a BGR picture.

        Where no box has anybody in it, as happens with drawings of half a body, the whole picture is
        taken for one. Points outside the picture have score 0: of half a body the other half is guessed.
        """
        height, width = picture.shape[:2]
        boxes = numpy.asarray(self._person_model(picture), float).reshape(-1, 4)
        boxes = boxes.clip(0, (width, height, width, height))
        sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        largest = boxes[numpy.argsort(-sizes, kind="stable")[:MOST_PEOPLE]]
        if len(largest):
            points, scores = self._pose(picture, largest)
            if ((scores[:, :18] >= self._least_confidence).sum(axis=1) >= LEAST_KEYPOINTS).any():
                return points, scores
        return self._pose(picture, numpy.array([(0, 0, width, height)], float))

    def _pose(
        self, picture: NDArray[numpy.uint8], boxes: NDArray[numpy.float64]
    ) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
        # RTMW reads RGB (mmpose's configuration: bgr_to_rgb), YOLOX BGR; rtmlib gives both what it is given.
        points, scores = self._pose_model(numpy.ascontiguousarray(picture[..., ::-1]), list(boxes))
        height, width = picture.shape[:2]
        inside = ((points >= 0) & (points <= (width, height))).all(axis=-1)
        return points, numpy.where(inside, scores, 0.0)


def load_people_model(
    person_path: Path, pose_path: Path, least_confidence: float, device: str
) -> PeopleModel:
    """Load the two networks from ONNX files, or archives with one in each.

    Raises:
        EngineError: a published file is not what was published (`pose_detector_failed`). What rtmlib or
            a file does not bear is raised as it is.
    """
    from rtmlib import YOLOX, RTMPose

    person_model = _load_model(YOLOX, person_path, device=device)
    pose_model = _load_model(RTMPose, pose_path, device=device, to_openpose=True)
    # Of height and width YOLOX has the first first, RTMPose the second.
    person_model.model_input_size = _read_size(person_model)
    pose_model.model_input_size = _read_size(pose_model)[::-1]
    return PeopleModel(person_model, pose_model, least_confidence)


def _load_model(kind: type, path: Path, **options: Any) -> Any:
    """A model of rtmlib from an ONNX file, or from an archive with one in it."""
    _check_digest(path)
    # rtmlib prints what it loads.
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder, redirect_stdout(StringIO()):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                member = next(name for name in archive.namelist() if name.endswith(".onnx"))
                path = Path(archive.extract(member, folder))
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}")
        return kind(str(path), backend="onnxruntime", **options)


def _check_digest(path: Path) -> None:
    expected = DIGESTS.get(path.name)
    if expected is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise EngineError(
            f"{path.name} is not the file that was published; delete it and run `understudy fetch pose`.",
            code="pose_detector_failed",
        )


def _read_size(model: Any) -> tuple[int, int]:
    """Height and width of the pictures that a model of rtmlib takes, in pixels."""
    _, _, height, width = model.session.get_inputs()[0].shape
    return height, width
