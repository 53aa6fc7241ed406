"""The poses that a worker draws in, and those that it scores."""

from __future__ import annotations

import numpy
import pytest
from worker_tasks import REFERENCE, RecordingEngine, make_run, make_task, name_picture, png, standing

from understudy.engines import EngineError
from understudy.engines.detector import PoseDetector
from understudy.executors.messages import (
    Drawn,
    TaskFailed,
)
from understudy.pose.drawing import draw_skeleton
from understudy.pose.skeleton import place_skeleton
from understudy.worker import Worker


class TestPose:
    def asked_skeleton(self, worker_engine, **fields) -> numpy.ndarray:
        messages = list(Worker(worker_engine[0], worker_engine[1]).run(make_run([make_task(**fields)])))
        assert not [message for message in messages if isinstance(message, TaskFailed)]
        return worker_engine[0].requests[-1].skeleton

    def test_none_is_asked_for(self):
        assert self.asked_skeleton((RecordingEngine(), None)) is None

    def test_keypoints_are_fractions_of_the_canvas(self):
        skeleton = self.asked_skeleton((RecordingEngine(), None), keypoints=standing(), width=400, height=300)
        assert numpy.allclose(skeleton, numpy.array(standing()) * (400, 300, 1))

    def test_a_library_pose_keeps_its_proportions(self):
        skeleton = self.asked_skeleton(
            (RecordingEngine(), None), keypoints=standing(), fit_pose=True, width=600, height=300
        )
        width, height = numpy.ptp(skeleton[:, :2], axis=0)
        own_width, own_height = numpy.ptp(numpy.array(standing())[:, :2], axis=0)
        assert width / height == pytest.approx(own_width / own_height)
        assert height < 300

    def test_a_skeleton_picture_is_read_and_used_as_it_is(self):
        drawn = draw_skeleton(numpy.array(standing()) * (512, 512, 1), 512, 512)
        skeleton = self.asked_skeleton(
            (RecordingEngine(), None), pose_picture=name_picture(png(drawn)), width=1024, height=512
        )
        expected = numpy.array(standing()) * (512, 512, 1) + (256, 0, 0)
        assert numpy.abs(skeleton[:, :2] - expected[:, :2]).max() < 4

    def test_a_picture_of_somebody_goes_to_the_detector_once(self):
        calls = []

        def model(picture):
            calls.append(picture)
            points = numpy.array(standing()) * (picture.shape[1], picture.shape[0], 1)
            return points[None, :, :2], numpy.ones((1, 18))

        engine = RecordingEngine()
        worker = Worker(engine, PoseDetector(model))
        tasks = [make_task(str(seed), pose_picture=name_picture(REFERENCE), seed=seed) for seed in range(3)]
        drawn = [message for message in worker.run(make_run(tasks)) if isinstance(message, Drawn)]
        expected = numpy.array(standing()) * (256, 256, 1)
        assert numpy.allclose(engine.requests[-1].skeleton, expected)
        assert [message.pose for message in drawn] == [1.0] * 3
        assert len([call for call in calls if call.shape[0] == 1024]) == 1

    def test_hands_and_face_go_with_the_body_to_the_canvas(self):
        points = numpy.random.default_rng(0).uniform(100, 900, (1, 134, 2))
        points[0, :18] = 1024 * numpy.array(standing())[:, :2]
        engine = RecordingEngine()
        task = make_task(pose_picture=name_picture(REFERENCE), width=512, height=256)
        worker = Worker(engine, PoseDetector(lambda picture: (points, numpy.ones((1, 134)))))
        list(worker.run(make_run([task])))
        request = engine.requests[-1]
        # The picture of 1024 x 1024 px stands whole in the middle of the canvas.
        assert numpy.allclose(request.skeleton[:, :2], points[0, :18] / 4 + (128, 0))
        assert numpy.allclose(request.face[:, :2], points[0, 24:92] / 4 + (128, 0))
        assert numpy.allclose(request.hands.reshape(42, 3)[:, :2], points[0, 92:] / 4 + (128, 0))

    def test_an_engine_that_has_a_detector_scores_its_own_pictures_and_finds_poses_with_it(self, monkeypatch):
        monkeypatch.setattr("understudy.engines.pose_finder.is_detector_installed", lambda settings: False)
        engine = RecordingEngine()

        def model(picture):
            points = numpy.array(standing()) * (picture.shape[1], picture.shape[0], 1)
            return points[None, :, :2], numpy.ones((1, 18))

        engine.detector = PoseDetector(model)
        task = make_task(pose_picture=name_picture(REFERENCE))
        drawn = next(m for m in Worker(engine).run(make_run([task])) if isinstance(m, Drawn))
        assert drawn.pose == 1.0
        assert numpy.allclose(engine.requests[-1].skeleton, numpy.array(standing()) * (256, 256, 1))

    def test_whom_the_installed_detector_does_not_see_the_engine_s_own_may_find(self):
        engine = RecordingEngine()
        points = numpy.array(standing())[None, :, :2] * 256
        engine.detector = PoseDetector(lambda picture: (points, numpy.ones((1, 18))))
        blind = PoseDetector(lambda picture: (numpy.zeros((0, 18, 2)), numpy.zeros((0, 18))))
        task = make_task(pose_picture=name_picture(REFERENCE))
        messages = list(Worker(engine, blind).run(make_run([task])))
        assert any(isinstance(message, Drawn) for message in messages)
        assert engine.requests[-1].skeleton is not None

    def test_without_a_detector_it_is_said_what_to_do(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        task = make_task(pose_picture=name_picture(REFERENCE))
        failed = next(m for m in Worker(RecordingEngine()).run(make_run([task])) if isinstance(m, TaskFailed))
        assert failed.code == "pose_detector_missing"
        assert "input_image" in failed.message

    def test_nobody_drawn_has_the_pose_score_0(self):
        detector = PoseDetector(lambda picture: (numpy.zeros((0, 18, 2)), numpy.zeros((0, 18))))
        task = make_task(keypoints=standing())
        drawn = next(
            m for m in Worker(RecordingEngine(), detector).run(make_run([task])) if isinstance(m, Drawn)
        )
        assert drawn.pose == 0.0

    def test_a_detector_that_cannot_be_loaded_is_tried_once_and_costs_the_score_alone(self, monkeypatch):
        tries = []

        def fail(settings):
            tries.append(1)
            raise EngineError("No models.", code="pose_detector_failed")

        monkeypatch.setattr("understudy.engines.pose_finder.is_detector_installed", lambda settings: True)
        monkeypatch.setattr("understudy.engines.pose_finder.load_detector", fail)
        tasks = [make_task(str(seed), keypoints=standing()) for seed in range(3)]
        drawn = [
            message
            for message in Worker(RecordingEngine()).run(make_run(tasks))
            if isinstance(message, Drawn)
        ]
        assert [message.pose for message in drawn] == [None] * 3
        assert len(tries) == 1

    def test_a_picture_is_placed_whole_and_centred(self):
        placed = place_skeleton(numpy.array([(0, 0, 1.0), (100, 200, 0.5)]), (100, 200), (400, 400))
        assert placed.tolist() == [[100, 0, 1.0], [300, 400, 0.5]]
