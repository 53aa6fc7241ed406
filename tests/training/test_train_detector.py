import numpy
import torch
from PIL import Image
from training.toon.detection import (
    DetectorTraining,
    measure_detector,
    prepare_figures,
    spread_keypoints,
)
from training.toon.groups import draw_figure, join_arrays
from training.toon.poses import HELD_OUT_FAMILIES
from training.toon.train_detector import learn_figures
from training.toon.trainer import Trainer

from understudy.engines.detector import PoseDetector
from understudy.engines.toon_detector import ToonDetector, ToonPoseModel, decode_heatmaps
from understudy.pose.scores import score_pck

SIDE = 128


def _build():
    torch.manual_seed(0)
    return DetectorTraining(ToonDetector(side=SIDE, widths=(16, 24, 32, 32), mixing_blocks=1))


def _make_trainer(folder, steps):
    return Trainer(_build().train(), folder, learning_rate=5e-3, steps=steps, warm_up_steps=5)


def test_a_detector_learns_a_few_drawings_by_heart(tmp_path):
    arrays = join_arrays([draw_figure(seed, SIDE) for seed in (1, 2, 4)])
    trainer = _make_trainer(tmp_path, 250)
    still = prepare_figures(arrays, trainer.device)
    for _ in range(250):
        trainer.descend(*trainer.network(still))
    detector = trainer.network.detector.eval()
    figures = measure_detector(detector, arrays)
    assert figures["pck_0.1"] == 1
    assert figures["presences"] == 1
    # What it learned is what the engine sees, in pixels of a picture of any size and shape.
    picture = Image.fromarray(arrays["pictures"][0]).resize((3 * SIDE, 3 * SIDE), Image.Resampling.BICUBIC)
    wide = Image.new("RGB", (4 * SIDE, 3 * SIDE), "white")
    wide.paste(picture, (SIDE, 0))
    found = PoseDetector(ToonPoseModel(detector)).find_skeleton(picture)
    assert score_pck(found, arrays["skeletons"][0] * (3 * SIDE, 3 * SIDE, 1)) == 1
    points, scores = ToonPoseModel(detector)(numpy.asarray(wide)[..., ::-1])
    assert points.shape == (1, 18, 2)
    assert scores.shape == (1, 18)
    detector.save_pretrained(tmp_path / "model")
    loaded = ToonDetector.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        for one, other in zip(detector(still.pictures), loaded(still.pictures), strict=True):
            assert torch.equal(one, other)


def test_training_lowers_the_loss_and_goes_on_exactly(tmp_path):
    arrays = join_arrays([draw_figure(seed, SIDE) for seed in range(4)])
    straight = _make_trainer(tmp_path / "straight", 12)
    still = prepare_figures(arrays, straight.device)
    with torch.no_grad():
        before = straight.network(still)[0]
    for _ in range(12):
        learn_figures(straight, arrays, 0)
    first = _make_trainer(tmp_path / "resumed", 12)
    for _ in range(6):
        learn_figures(first, arrays, 0)
    first.save()
    second = _make_trainer(tmp_path / "resumed", 12)
    assert second.resume()
    for _ in range(6):
        learn_figures(second, arrays, 0)
    for one, other in zip(straight.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        assert straight.network(still)[0] < 0.9 * before


def test_heatmaps_are_decoded_to_where_they_were_spread_from():
    rng = numpy.random.default_rng(0)
    skeletons = torch.ones(5, 18, 3)
    skeletons[:, :, :2] = torch.from_numpy(rng.uniform(0.02, 0.98, (5, 18, 2))).float()
    heatmaps = spread_keypoints(skeletons, 64).log().clamp(min=-50).view(5, 18, 64, 64)
    points, scores = decode_heatmaps(heatmaps, torch.full((5, 18), -2.0))
    assert (64 * (points - skeletons[:, :, :2])).abs().max() < 0.35
    assert torch.allclose(scores, torch.sigmoid(torch.tensor(-2.0)))
    assert torch.allclose(spread_keypoints(skeletons, 64).sum(dim=-1), torch.ones(5, 18))


def test_held_out_poses_are_drawn_when_asked():
    one, other = draw_figure(7, 64, HELD_OUT_FAMILIES), draw_figure(7, 64)
    assert one["skeletons"].shape == (1, 18, 3)
    assert not numpy.array_equal(one["pictures"], other["pictures"])


def test_the_small_network_is_small():
    count = sum(weight.numel() for weight in ToonDetector().parameters())
    assert 2 * count < 2.5 * 2**20
