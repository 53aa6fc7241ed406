import numpy
import pytest
from PIL import Image

from understudy.engines import EngineError
from understudy.engines.detector import PoseDetector
from understudy.engines.pose_finder import PoseFinder

PICTURE = Image.new("RGB", (300, 300), "white")


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    monkeypatch.setattr("understudy.engines.pose_finder.is_detector_installed", lambda settings: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_the_face_is_found_by_the_engine_s_own_detector(standing):
    own = PoseDetector(lambda picture: (300 * standing[None, :, :2], numpy.ones((1, 18))))
    left, top, right, bottom = PoseFinder(own).find_face(PICTURE)
    nose = 300 * standing[0]
    assert left < nose[0] < right
    assert top < nose[1] < bottom
    assert right - left == pytest.approx(bottom - top, abs=1)


def test_where_nobody_is_or_nothing_looks_there_is_no_face():
    blind = PoseDetector(lambda picture: (numpy.zeros((0, 18, 2)), numpy.zeros((0, 18))))
    assert PoseFinder(blind).find_face(PICTURE) is None
    assert PoseFinder().find_face(PICTURE) is None
    with pytest.raises(EngineError):
        PoseFinder().find("digest", PICTURE)
