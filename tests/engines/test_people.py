"""The detector of people with rtmlib and onnxruntime as they are, on networks that are made here."""

import re

import numpy
import pytest
from PIL import Image

from understudy.engines import EngineError
from understudy.engines.detector import is_detector_installed, load_detector
from understudy.engines.people import DIGESTS
from understudy.engines.pose_finder import PoseFinder
from understudy.settings import Settings
from understudy.weights import POSE, list_parts

from . import tiny_people

RED, BLUE = (255, 0, 0), (0, 0, 255)
SIDE = 640
NEAR, FAR = (120, 80, 420, 480), (480, 100, 570, 220)
"""Boxes in pixels of a picture that is as large as YOLOX's own, of RTMW's shape: 3 to 4."""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def settings(folder, tmp_path):
    return Settings(
        data_dir=tmp_path, pose_detector=str(folder), pose_person_model="people.onnx", pose_model="pose.zip"
    )


def build(folder, *boxes, hidden=()):
    tiny_people.save_person_model(folder / "people.onnx", [(*box, 0.9) for box in boxes])
    tiny_people.save_pose_model(folder / "pose.zip", hidden)


def draw(*dots, size=(SIDE, SIDE)):
    """A black picture with dots (x, y, colour) of 9 px."""
    picture = Image.new("RGB", size)
    for x, y, colour in dots:
        picture.paste(colour, (x - 4, y - 4, x + 5, y + 5))
    return picture


def to_picture(points, box):
    """Points of the crop in pixels of the picture: RTMW's crop is the box, 1.25 times as large."""
    left, top, right, bottom = box
    scale = 1.25 * (right - left) / tiny_people.WIDTH
    middle = numpy.array([left + right, top + bottom]) / 2
    return (points - (tiny_people.WIDTH / 2, tiny_people.HEIGHT / 2)) * scale + middle


def test_the_largest_person_is_told_with_hands_and_face_in_pixels_of_the_picture(folder, settings):
    build(folder, FAR, FAR, FAR, NEAR)
    body = load_detector(settings).find_body(draw((260, 170, RED), (300, 140, BLUE), (520, 120, RED)))
    expected = to_picture(tiny_people.stand_in_crop(), NEAR)
    assert (body.skeleton[:, 2] > 0.3).all()
    assert numpy.allclose(body.skeleton[2, :2], expected[6])
    assert numpy.allclose(body.skeleton[1, :2], expected[[5, 6]].mean(axis=0))
    assert numpy.allclose(body.skeleton[13, :2], expected[15])
    assert numpy.allclose(body.face[:, :2], expected[23:91])
    assert numpy.allclose(body.hands[0, :, :2], expected[91:112])
    assert numpy.allclose(body.hands[1, :, :2], expected[112:133])
    # The network reads red where red is and blue where blue is: the colours come in its order.
    assert numpy.abs(body.skeleton[0, :2] - (260, 170)).max() < 6
    assert numpy.abs(body.skeleton[15, :2] - (300, 140)).max() < 6


def test_another_size_of_picture_than_the_networks_own(folder, settings):
    build(folder, NEAR)
    body = load_detector(settings).find_body(draw((500, 300, RED), (520, 300, BLUE), size=(1280, 960)))
    expected = to_picture(tiny_people.stand_in_crop(), [2 * edge for edge in NEAR])
    assert numpy.allclose(body.skeleton[2, :2], expected[6])
    assert numpy.abs(body.skeleton[0, :2] - (500, 300)).max() < 10


@pytest.mark.parametrize("boxes", [(), (FAR,)], ids=["no box", "a box with nobody in it"])
def test_where_nobody_is_boxed_the_whole_picture_is_taken(folder, settings, boxes):
    build(folder, *boxes)
    body = load_detector(settings).find_body(draw((300, 300, RED), (320, 280, BLUE), size=(480, 640)))
    expected = to_picture(tiny_people.stand_in_crop(), (0, 0, 480, 640))
    assert numpy.allclose(body.skeleton[2, :2], expected[6])


def test_nobody_at_all(folder, settings):
    build(folder, NEAR)
    with pytest.raises(EngineError) as raised:
        load_detector(settings).find_body(draw())
    assert raised.value.code == "no_person_found"


def test_of_half_a_body_what_is_outside_is_hidden_and_the_rest_stays_in_its_place(folder, settings):
    build(folder, (170, 340, 470, 740))
    body = load_detector(settings).find_body(draw((300, 450, RED), (330, 440, BLUE)))
    # The box ends where the picture does; of 300 x 300 px the crop is as wide, and 4 to 3 high.
    scale, middle = 1.25 * 300 / tiny_people.WIDTH, (320, 490)
    points = tiny_people.stand_in_crop()[[16, 15, 14, 13, 12, 11, 6, 5]]
    expected = (points - (tiny_people.WIDTH / 2, tiny_people.HEIGHT / 2)) * scale + middle
    found = body.skeleton[[10, 13, 9, 12, 8, 11, 2, 5]]
    outside = expected[:, 1] > SIDE
    assert outside.tolist() == [True, True, False, False, False, False, False, False]
    assert numpy.array_equal(found[:, 2] == 0, outside)
    assert numpy.allclose(found[~outside, :2], expected[~outside])


def test_doubtful_points_are_hidden_and_a_hand_goes_with_its_wrist(folder, settings):
    # COCO's left wrist, both ankles, and three quarters of the face.
    build(folder, NEAR, hidden=[9, 15, 16, *range(23, 74)])
    body = load_detector(settings).find_body(draw((260, 170, RED), (300, 140, BLUE)))
    assert numpy.flatnonzero(body.skeleton[:, 2] == 0).tolist() == [7, 10, 13]
    assert (body.hands[0] == 0).all()
    assert (body.hands[1, :, 2] > 0.3).all()
    assert body.face is None


def test_the_least_confidence_is_a_setting(folder, settings):
    build(folder, NEAR)
    strict = settings.model_copy(update={"pose_least_confidence": 2.0})
    with pytest.raises(EngineError) as raised:
        load_detector(strict).find_body(draw((260, 170, RED), (300, 140, BLUE)))
    assert raised.value.code == "no_person_found"


def test_models_that_are_not_there_are_asked_for(settings, tmp_path):
    hub = settings.model_copy(update={"pose_detector": "somebody/else", "pose_detector_revision": "0" * 40})
    for asked in (settings, hub):
        assert not is_detector_installed(asked)
        with pytest.raises(EngineError) as raised:
            load_detector(asked)
        assert raised.value.code == "pose_detector_failed"
        assert "UNDERSTUDY_POSE_DETECTOR" in raised.value.message
        assert "or the parameter pose" in raised.value.message, "a client cannot fetch"
    assert "understudy fetch pose" in raised.value.message


def test_what_is_fetched_by_default_is_pinned_and_known_by_its_digest():
    (part,) = list_parts(Settings(), POSE)
    assert re.fullmatch("[0-9a-f]{40}", part.revision)
    assert part.choose_files(["README.md", *part.files, "rtmw/other.zip"]) == list(part.files)
    assert {file.rpartition("/")[2] for file in part.files} <= set(DIGESTS)


def test_a_published_file_with_another_content_is_refused(folder, settings):
    name = "yolox_m_8xb8-300e_humanart-c2c7a14a.zip"
    build(folder, NEAR)
    tiny_people.save_person_model(folder / name, [(*NEAR, 0.9)])
    with pytest.raises(EngineError, match="not the file that was published") as raised:
        load_detector(settings.model_copy(update={"pose_person_model": name}))
    assert raised.value.code == "pose_detector_failed"


def test_a_broken_file_is_told(folder, settings):
    build(folder, NEAR)
    (folder / "people.onnx").write_bytes(b"no network")
    with pytest.raises(EngineError) as raised:
        load_detector(settings)
    assert raised.value.code == "pose_detector_failed"
    assert str(folder) not in raised.value.message


def test_poses_are_found_and_scored_by_the_settings_of_the_environment(folder, settings, monkeypatch):
    build(folder, NEAR)
    for name, value in settings.to_environment().items():
        if name.startswith("UNDERSTUDY_POSE"):
            monkeypatch.setenv(name, value)
    assert is_detector_installed()
    picture = draw((260, 170, RED), (300, 140, BLUE))
    finder = PoseFinder()
    body = finder.find("digest", picture)
    assert body.face is not None
    assert finder.can_score(body.skeleton)
    assert finder.score(body.skeleton, picture) == 1.0


def test_a_finder_takes_the_settings_that_it_is_given(folder, settings):
    build(folder, NEAR)
    assert not is_detector_installed()
    assert PoseFinder(settings=settings).find_face(draw((260, 170, RED), (300, 140, BLUE))) is not None
