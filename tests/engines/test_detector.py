from __future__ import annotations

import subprocess
import sys

import numpy
import pytest
from PIL import Image

from understudy.engines import EngineError
from understudy.engines.detector import PoseDetector, load_detector
from understudy.pose.whole_body import WholeBody

PICTURE = Image.new("RGB", (300, 200), (255, 0, 0))


def people(*bodies):
    """rtmlib's answer for whole bodies: 134 keypoints each, the first 18 in OpenPose's order."""
    points = numpy.zeros((len(bodies), 134, 2))
    scores = numpy.full((len(bodies), 134), 0.05)
    for number, (keypoints, confidence) in enumerate(bodies):
        points[number, :18] = keypoints[:, :2]
        scores[number, :18] = confidence
    return points, scores


def test_the_largest_person_is_taken_in_pixels_of_the_picture(standing):
    near, far = standing * (300, 200, 1), standing * (30, 20, 1)
    detector = PoseDetector(lambda picture: people((far, 0.9), (near, 1.7), (far, 0.8)))
    skeleton = detector.find_skeleton(PICTURE)
    assert skeleton.shape == (18, 3)
    assert numpy.allclose(skeleton[:, :2], near[:, :2])
    assert (skeleton[:, 2] == 1).all()


def test_a_doubtful_keypoint_is_hidden(standing):
    confidence = numpy.full(18, 0.8)
    confidence[[4, 16]] = 0.1
    detector = PoseDetector(lambda picture: people((standing * (300, 200, 1), confidence)))
    assert list(numpy.flatnonzero(detector.find_skeleton(PICTURE)[:, 2] == 0)) == [4, 16]


def test_the_model_is_given_blue_first():
    seen = []

    def model(picture):
        seen.append(picture)
        return people()

    with pytest.raises(EngineError):
        PoseDetector(model).find_skeleton(PICTURE)
    assert seen[0].shape == (200, 300, 3)
    assert tuple(seen[0][0, 0]) == (0, 0, 255)


def make_whole_person(standing, confidence=0.9):
    """One person of 134 points: face and hands are all around."""
    points, scores = people((standing * (300, 200, 1), confidence))
    points[0, 18:] = numpy.random.default_rng(0).uniform(0, 200, (116, 2))
    scores[0, 18:] = confidence
    return points, scores


def test_hands_and_face_are_told_where_the_model_tells_them(standing):
    points, scores = make_whole_person(standing)
    body = PoseDetector(lambda picture: (points, scores)).find_body(PICTURE)
    assert isinstance(body, WholeBody)
    assert numpy.array_equal(body.face[:, :2], points[0, 24:92])
    assert numpy.array_equal(body.hands[0, :, :2], points[0, 92:113])
    assert numpy.array_equal(body.hands[1, :, :2], points[0, 113:134])
    body = PoseDetector(lambda picture: (points[:, :18], scores[:, :18])).find_body(PICTURE)
    assert body.hands is None
    assert body.face is None


@pytest.mark.parametrize("shown", [10, 11])
def test_a_hand_that_shows_less_than_half_is_left_out(standing, shown):
    points, scores = make_whole_person(standing)
    scores[0, 92 + shown : 113] = 0.1
    body = PoseDetector(lambda picture: (points, scores)).find_body(PICTURE)
    assert (body.hands[0, :, 2] > 0).sum() == (11 if shown == 11 else 0)
    assert (body.hands[1, :, 2] > 0).all()


def test_hands_go_with_their_wrists_and_none_is_told_without_any(standing):
    points, scores = make_whole_person(standing)
    scores[0, [4, 7]] = 0.0
    assert PoseDetector(lambda picture: (points, scores)).find_body(PICTURE).hands is None


def test_what_is_doubtful_is_the_detector_s_to_say(standing):
    points, scores = make_whole_person(standing, 1.5)
    assert PoseDetector(lambda picture: (points, scores), 1.4).find_body(PICTURE).face is not None
    with pytest.raises(EngineError):
        PoseDetector(lambda picture: (points, scores), 1.6).find_body(PICTURE)


@pytest.mark.parametrize("confidence", [None, 0.1])
def test_nobody_is_an_error_that_names_the_parameter(standing, confidence):
    bodies = [] if confidence is None else [(standing, confidence)]
    detector = PoseDetector(lambda picture: people(*bodies))
    with pytest.raises(EngineError, match="input_image") as raised:
        detector.find_skeleton(PICTURE)
    assert raised.value.code == "no_person_found"


def test_a_detector_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r'pip install "understudy\[pose\]"') as raised:
        load_detector()
    assert raised.value.code == "pose_detector_missing"
    assert "input_image" in raised.value.message


def test_whether_it_is_installed_is_told_without_importing_it():
    program = (
        "import sys; from understudy.engines.detector import is_detector_installed; "
        "is_detector_installed(); print({'rtmlib', 'onnxruntime', 'cv2'} & {*sys.modules})"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
