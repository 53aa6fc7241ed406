import numpy
import pytest
import torch
from PIL import Image

from understudy.engines import EngineError
from understudy.engines.detector import PoseDetector
from understudy.engines.toon_detector import ToonDetector, ToonPoseModel, decode_heatmaps, fit_in_square


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ToonDetector(side=64, widths=(16, 16, 32, 32), mixing_blocks=1).eval()


def _make_heatmaps(x, y, cells=16):
    """Heatmaps whose logits fall off with the square of the distance from (x, y), in cells."""
    middles = torch.arange(cells) + 0.5
    return -((middles[None] - x) ** 2 + (middles[:, None] - y) ** 2).expand(1, 18, cells, cells)


@pytest.mark.parametrize(("x", "y"), [(8.0, 8.5), (3.3, 12.9), (0.5, 15.5)])
def test_a_keypoint_is_told_to_fractions_of_a_cell(x, y):
    points, _ = decode_heatmaps(_make_heatmaps(x, y), torch.zeros(1, 18))
    # At the edge half of the distribution is cut off.
    off = 0.1 if 2 < x < 14 and 2 < y < 14 else 0.6
    assert (16 * points - torch.tensor([x, y])).abs().max() < off


def test_a_far_second_peak_moves_nothing():
    heatmaps = _make_heatmaps(4.5, 4.5).clone()
    before, _ = decode_heatmaps(heatmaps, torch.zeros(1, 18))
    heatmaps[..., 12, 12] = -0.1
    after, _ = decode_heatmaps(heatmaps, torch.zeros(1, 18))
    assert torch.equal(before, after)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (64, 64), (3, 500)])
def test_a_picture_stands_whole_in_the_middle_of_a_square(size):
    picture = Image.new("RGB", size, (250, 120, 60))
    square, scale, shift = fit_in_square(picture, 64)
    assert square.size == (64, 64)
    assert square.getpixel((0, 0)) == square.getpixel((63, 63)) == (250, 120, 60)
    middle = scale * numpy.array(size) / 2 + shift
    assert numpy.abs(middle - 32).max() <= 1


@pytest.mark.parametrize("size", [(300, 120), (90, 333), (20, 20)])
def test_points_are_in_pixels_of_the_picture_whatever_its_shape(network, size):
    noise = numpy.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=numpy.uint8)
    square, scale, shift = fit_in_square(Image.fromarray(noise), 64)
    model = ToonPoseModel(network)
    points, scores = model(noise[..., ::-1])
    seen, same_scores = model(numpy.asarray(square)[..., ::-1])
    assert points.shape == (1, 18, 2)
    assert numpy.allclose(scale * points + shift, seen)
    assert numpy.array_equal(scores, same_scores)


def test_where_no_keypoint_is_present_nobody_is_found(network):
    with torch.no_grad():
        network.presence_head[-1].weight.zero_()
        network.presence_head[-1].bias.fill_(-5)
    picture = Image.new("RGB", (80, 60), "white")
    with pytest.raises(EngineError) as raised:
        PoseDetector(ToonPoseModel(network)).find_skeleton(picture)
    assert raised.value.code == "no_person_found"
    with torch.no_grad():
        network.presence_head[-1].bias.fill_(5)
    skeleton = PoseDetector(ToonPoseModel(network)).find_skeleton(picture)
    assert (skeleton[:, 2] > 0.99).all()


def test_it_is_saved_and_loaded(network, tmp_path):
    network.half().save_pretrained(tmp_path)
    loaded = ToonDetector.from_pretrained(tmp_path, dtype=torch.float32)
    assert loaded.config.side == 64
    for one, other in zip(network.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one.float(), other)
