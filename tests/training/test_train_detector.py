import numpy
import torch
from PIL import Image
from training.toon.detection import (
    DetectorTraining,
    measure_detector,
    measure_empty,
    prepare_figures,
    spread_keypoints,
)
from training.toon.groups import draw_figure, join_arrays
from training.toon.ink import Part
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
    network = _build().train()
    optimizer = torch.optim.AdamW(network.parameters())
    return Trainer(network, folder, optimizer=optimizer, learning_rate=5e-3, steps=steps, warm_up_steps=5)


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


def test_in_an_empty_scene_no_keypoint_is_shown():
    shown = [draw_figure(seed, 64, empty_share=0.5)["skeletons"][0, :, 2].any() for seed in range(40)]
    assert 10 < sum(shown) < 30
    empty = draw_figure(3, 64, empty_share=1.0)
    assert (empty["parts"] == Part.SCENE).all()
    assert not numpy.array_equal(empty["pictures"], draw_figure(3, 64)["pictures"])


def test_who_sees_somebody_everywhere_is_found_out():
    detector = _build().detector.eval()
    empty = join_arrays([draw_figure(seed, SIDE, empty_share=1.0) for seed in range(3)])
    last = detector.presence_head[-1] if hasattr(detector, "presence_head") else None
    assert last is not None
    torch.nn.init.zeros_(last.weight)
    for bias, share in ((5.0, 1.0), (-5.0, 0.0)):
        torch.nn.init.constant_(last.bias, bias)
        assert measure_empty(detector, empty) == share


def test_the_small_network_is_small():
    count = sum(weight.numel() for weight in ToonDetector().parameters())
    assert 2 * count < 2.5 * 2**20
