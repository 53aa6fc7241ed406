import numpy
import torch
from training.toon.augmentation import Augmentation, Batch, augment
from training.toon.ink import Part

from understudy.pose.skeleton import KEYPOINT_NAMES, MIRRORED

SIDE = 96
STILL = Augmentation(zoom=(1, 1), stretch=0, shift=0, turn=0, tint=0, plain=0, blurred=0, noisy=0)


def _draw_dots(count, seed=0):
    """Pictures with a white dot at each of a few keypoints, each on a part of its own."""
    rng = numpy.random.default_rng(seed)
    pictures = -torch.ones(count, 3, SIDE, SIDE)
    parts = torch.zeros(count, SIDE, SIDE, dtype=torch.uint8)
    skeletons = torch.zeros(count, 18, 3)
    for index in range(count):
        for keypoint, part in ((0, Part.EYES), (2, Part.TOP), (13, Part.SHOES)):
            x, y = rng.integers(20, SIDE - 20, 2)
            pictures[index, :, y - 1 : y + 2, x - 1 : x + 2] = 1
            parts[index, y - 1 : y + 2, x - 1 : x + 2] = part
            skeletons[index, keypoint] = torch.tensor([(x + 0.5) / SIDE, (y + 0.5) / SIDE, 1.0])
    return Batch(pictures, parts, skeletons)


def _find_middle(mask):
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return torch.stack([columns.float().mean() + 0.5, rows.float().mean() + 0.5])


def test_keypoints_and_parts_move_as_their_pixels_do():
    how = Augmentation(zoom=(0.9, 1.3), shift=0.05, turn=25, tint=0, plain=0, blurred=0, noisy=0)
    before = _draw_dots(40)
    after = augment(before, how, torch.Generator().manual_seed(1))
    mirrored = followed = 0
    for index in range(40):
        for keypoint, part in ((0, Part.EYES), (2, Part.TOP), (13, Part.SHOES)):
            place = keypoint
            if after.skeletons[index, keypoint, 2] == 0:
                place = MIRRORED[keypoint]
                mirrored += 1
            if after.skeletons[index, place, 2] == 0:
                continue
            middle = _find_middle(after.parts[index] == part)
            assert (SIDE * after.skeletons[index, place, :2] - middle).abs().max() < 1.0
            x, y = middle.int().tolist()
            assert after.pictures[index, 0, y, x] > 0
            followed += 1
    assert followed > 80
    assert 10 < mirrored < 60, "about half of the pictures are mirrored, left and right exchanged"


def test_a_keypoint_that_leaves_the_picture_is_hidden():
    how = Augmentation(zoom=(4, 4), shift=0, turn=0, tint=0, plain=0, blurred=0, noisy=0)
    batch = _draw_dots(30)
    after = augment(batch, how, torch.Generator().manual_seed(1))
    near = ((batch.skeletons[:, :, :2] - 0.5).abs() < 0.11).all(dim=2) & (batch.skeletons[:, :, 2] > 0)
    far = ((batch.skeletons[:, :, :2] - 0.5).abs() > 0.14).any(dim=2) & (batch.skeletons[:, :, 2] > 0)
    shown = (after.skeletons[:, :, 2] > 0).sum(dim=1)
    assert (shown >= near.sum(dim=1)).all()
    assert (shown <= 3 - far.sum(dim=1)).all()
    assert far.any()


def test_nothing_changes_but_left_and_right_when_nothing_is_asked():
    batch = _draw_dots(8)
    after = augment(batch, STILL, torch.Generator().manual_seed(0))
    for index in range(8):
        same = torch.allclose(after.pictures[index], batch.pictures[index], atol=1e-4)
        flipped = torch.allclose(after.pictures[index], batch.pictures[index].flip(-1), atol=1e-4)
        assert same != flipped


def test_a_seed_decides_and_the_batch_stays_as_it_is():
    how = Augmentation(recoloured=0.5, grey=0.3, plain=0.5, blurred=0.5, noisy=0.5)
    batch = _draw_dots(16)
    kept = batch.pictures.clone()
    first, again, other = (
        augment(batch, how, torch.Generator().manual_seed(seed)).pictures for seed in (3, 3, 4)
    )
    assert torch.equal(batch.pictures, kept)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1


def test_taking_the_scene_away_leaves_the_figure():
    batch = _draw_dots(10)
    batch.pictures[batch.parts[:, None].expand_as(batch.pictures) > 0] = 0.25
    after = augment(batch, Augmentation(**(vars(STILL) | {"plain": 1.0})), torch.Generator().manual_seed(0))
    figure = after.parts > 0
    assert after.pictures[:, 0][figure].median() == 0.25
    assert (after.pictures[:, 0][~figure] == 1).float().mean() > 0.3
    assert len(KEYPOINT_NAMES) == after.skeletons.shape[1]
