"""The loupe sees how pictures are drawn: what an examiner overlooks is an excess in its features."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from training.toon.attributes import NAMES, NONE
from training.toon.cases import draw_stranger
from training.toon.evaluation import add_noise, blur_slightly
from training.toon.figures import compare_excess, measure_frechet, standardize
from training.toon.ink import Part
from training.toon.loupe import (
    PIECE_SIDE,
    PIECES,
    Loupe,
    LoupeTraining,
    draw_piece,
    look_closely,
    measure_grain,
    measure_loupe,
    prepare_pieces,
)

ENTRIES = [draw_piece(seed) for seed in range(24)]
DEVICE = torch.device("cpu")
GRAIN = 18


def make_loupe(widths=(12, 16, 20, 24)):
    torch.manual_seed(0)
    return Loupe(widths)


def stack(entries):
    return {name: np.stack([entry[name] for entry in entries]) for name in entries[0]}


def test_a_look_has_parts_answers_and_features():
    look = make_loupe()(torch.zeros(2, 3, PIECE_SIDE, PIECE_SIDE))
    assert look.features.shape == (2, 16 + 20 + GRAIN)
    assert look.parts.shape == (2, len(Part), PIECE_SIDE // 8, PIECE_SIDE // 8)
    assert [*look.answers] == [*NAMES]


def test_grain_is_what_is_fine_and_everywhere():
    flat = torch.zeros(1, 3, 64, 64)
    assert measure_grain(flat).abs().max() == 0
    # A step has grain where it is, in every band; noise has most in the finest, everywhere.
    step = flat.clone()
    step[:, :, :, 31:] = 1
    noise = 0.05 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    (edges,), (grain,) = measure_grain(step), measure_grain(step + noise)
    assert (grain[:6] > 2 * edges[:6]).all()
    blurred = functional.avg_pool2d(functional.pad(step, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert (measure_grain(blurred)[0, :3] < 0.8 * edges[:3]).all()


def test_pieces_are_of_full_size_and_ask_only_what_they_show():
    arrays = stack(ENTRIES)
    assert arrays["pictures"].shape == (24, PIECE_SIDE, PIECE_SIDE, 3)
    assert np.array_equal(draw_piece(0)["pictures"], arrays["pictures"][0])
    _, parts, answers = prepare_pieces(arrays, DEVICE)
    assert (parts != Part.SCENE).any(dim=(1, 2)).float().mean() > 0.9
    without_shoes = ~(parts == Part.SHOES).any(dim=(1, 2))
    assert without_shoes.any()
    assert (answers[without_shoes, NAMES.index("shoes")] == NONE).all()
    assert (answers[:, NAMES.index("shoes")] != NONE).any()


def test_it_learns_a_few_pieces_by_heart():
    arrays = stack(ENTRIES[:8])
    network = LoupeTraining(make_loupe())
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    before = measure_loupe(network.loupe, arrays)["answers"]
    for _ in range(50):
        loss, losses = network(arrays)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert measure_loupe(network.loupe, arrays)["answers"] > max(0.7, before + 0.3)
    assert losses["parts"] < 1.2


def test_it_looks_about_the_keypoints():
    loupe = make_loupe().eval()
    skeleton = np.zeros((18, 3))
    skeleton[0], skeleton[4] = (300, 300, 1), (1020, 500, 1)
    picture = np.full((1024, 1024, 3), 200, np.uint8)
    before = look_closely(loupe, picture, skeleton)
    picture[600:, :800] = 0
    assert np.array_equal(look_closely(loupe, picture, skeleton), before)
    picture[250:350, 250:350] = 0
    after = look_closely(loupe, picture, skeleton)
    assert after.shape == (PIECES, 36 + GRAIN)
    # Two keypoints are seen: every second piece is about the first.
    assert [np.array_equal(*pair) for pair in zip(after, before, strict=True)] == [False, True] * 3


def cut(picture, side=128):
    """Pieces of a picture, those of a chessboard's white fields first."""
    rows = np.asarray(picture).reshape(1024 // side, side, 1024 // side, side, 3).swapaxes(1, 2)
    white = np.indices(rows.shape[:2]).sum(axis=0) % 2 == 0
    return np.concatenate([rows[white], rows[~white]])


@torch.no_grad()
def see(loupe, pictures):
    pieces = torch.from_numpy(np.concatenate([cut(one)[:32] for one in pictures]))
    return loupe(pieces.permute(0, 3, 1, 2) / 127.5 - 1).features.double().numpy()


@pytest.mark.parametrize("spoil", [blur_slightly, add_noise])
def test_what_doubles_an_excess_is_not_within_the_aim(spoil):
    loupe = make_loupe(widths=(4, 4, 4, 4)).eval()
    pictures = [draw_stranger(number)[0] for number in range(8)]
    others = see(loupe, [Image.fromarray(np.roll(np.asarray(one), 128, axis=0)) for one in pictures])
    reconstructed = [Image.blend(one, blur_slightly(one), 0.8) for one in pictures]
    sets = (pictures, reconstructed, [spoil(one) for one in reconstructed])
    true, allowed, drawn = (standardize(see(loupe, one), others) for one in sets)
    others = standardize(others, others)
    # Against the same pictures it is at least twice as far away, and so it is told.
    assert measure_frechet(drawn, true) > 2 * measure_frechet(allowed, true)
    assert compare_excess(drawn, allowed, true, others) > 1.3
    assert compare_excess(allowed, allowed, true, others) == pytest.approx(1)
