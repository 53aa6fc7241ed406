"""The twenty drawings that pose detectors are measured on: where their joints are, and what a mark says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from understudy.engines.detector import PoseDetector
from understudy.pose.drawing import draw_disc
from understudy.pose.skeleton import visible_keypoints

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
from poses import CASES, Mark, find_detectors, mark


def test_there_are_twenty_and_each_is_somebody_else():
    assert len({case.name for case in CASES}) == len({case.seed for case in CASES}) == 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_joints_of_a_distorted_drawing_are_where_they_are_told(case):
    picture, truth = case.draw()
    canvas = numpy.zeros((picture.height, picture.width, 3), numpy.float32)
    for x, y, _ in truth[visible_keypoints(truth)]:
        draw_disc(canvas, numpy.array((x, y)), 0.012 * max(picture.size), (255.0, 255.0, 255.0))
    dots = numpy.asarray(case.distort((Image.fromarray(canvas.astype(numpy.uint8)), truth))[0]).astype(int)
    shown = case.make()[1]
    assert 5 <= visible_keypoints(shown).sum() <= visible_keypoints(truth).sum()
    for x, y, _ in shown[visible_keypoints(shown)]:
        assert dots[int(y), int(x)].min() > 150
    # Left stays left: the dots are not the only ones that moved.
    if case.name.startswith("mirrored"):
        assert numpy.allclose(shown[4, 0], picture.width - truth[7, 0]) or truth[7, 2] == 0


def test_a_detector_s_mark():
    drawn = CASES[0].make()
    truth = drawn[1]

    def tell(skeleton):
        return lambda picture: (skeleton[None, :, :2], skeleton[None, :, 2])

    assert mark(PoseDetector(tell(truth)), drawn) == Mark(1.0, 1.0)
    far = truth + numpy.array([drawn[0].width, 0, 0])
    assert mark(PoseDetector(tell(far)), drawn) == Mark(0.0, 1.0)
    nobody = mark(PoseDetector(tell(numpy.zeros((18, 3)))), drawn)
    assert nobody == Mark(0.0, float((~visible_keypoints(truth)).mean()))


def test_the_embedded_model_s_detector_finds_most_of_the_joints():
    detector = find_detectors()["toon"]
    marks = [mark(detector, case.make()) for case in CASES]
    assert numpy.mean([one.pck for one in marks]) > 0.55
    assert numpy.mean([one.presences for one in marks]) > 0.95
    # Of somebody else's drawing little is right.
    others = [(CASES[(number + 1) % 20].make()[0], case.make()[1]) for number, case in enumerate(CASES)]
    assert numpy.mean([mark(detector, drawn).pck for drawn in others]) < 0.3
