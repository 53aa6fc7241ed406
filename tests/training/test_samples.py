import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from training.toon.attributes import NAMES, answer_attributes
from training.toon.crops import make_picture
from training.toon.ink import Part
from training.toon.pool import Pool
from training.toon.poses import HELD_OUT_FAMILIES
from training.toon.renderer import draw
from training.toon.samples import CAPTIONS, CHANGED_SHARE, SHAPES, UNCHANGED, draw_sample, read_texts
from training.toon.wording import CLOTH_COLOUR_WORDS, HAIR_COLOUR_WORDS, SYNONYMS


@pytest.fixture(scope="module")
def samples():
    return [draw_sample(seed) for seed in range(80)]


def test_a_seed_draws_one_sample():
    first, second = draw_sample(9), draw_sample(9)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["picture"], draw_sample(10)["picture"])


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_arrays_have_one_shape_for_a_canvas(width, height):
    shapes = [
        {
            name: (array.shape, array.dtype)
            for name, array in draw_sample(seed, width=width, height=height).items()
        }
        for seed in range(6)
    ]
    assert all(each == shapes[0] for each in shapes)
    assert shapes[0]["picture"] == ((height, width, 3), np.uint8)
    assert shapes[0]["parts"] == ((height // 8, width // 8), np.uint8)
    assert shapes[0]["skeleton_picture"] == ((height // 2, width // 2, 3), np.uint8)


def test_skeletons_lie_on_the_figure(samples):
    near = []
    for sample in samples:
        skeleton = sample["skeleton"]
        assert ((skeleton[:, :2] >= 0) & (skeleton[:, :2] < 1)).all()
        for x, y, seen in skeleton[:14]:
            if seen:
                row, column = int(y * 32), int(x * 32)
                around = sample["parts"][max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                near.append((around != Part.SCENE).any())
    assert np.mean(near) > 0.97


def test_skeleton_pictures_show_the_skeleton(samples):
    for sample in samples[:20]:
        x, y, seen = sample["skeleton"][1]
        if seen:
            assert sample["skeleton_picture"][int(y * 128), int(x * 128)].max() > 100


def test_a_changed_reference_differs_in_its_attribute(samples):
    changed = [sample for sample in samples if sample["changed"] != UNCHANGED]
    assert abs(len(changed) / len(samples) - CHANGED_SHARE) < 0.15
    for seed, sample in enumerate(samples):
        answers = answer_attributes(make_picture(seed)[0])
        differing = {
            name
            for name, own, other in zip(NAMES, answers, sample["reference_answers"], strict=True)
            if own != other
        }
        if sample["changed"] == UNCHANGED:
            assert not differing
        else:
            name = NAMES[sample["changed"]]
            # A thing that comes or goes takes its colour and pattern along.
            assert name in differing
            assert all(other.split("_")[0] == name.split("_")[0] for other in differing)


def test_prompts_tell_what_a_changed_reference_does_not_show(samples):
    told = 0
    for seed, sample in enumerate(samples):
        texts = read_texts(sample["captions"])
        assert len(texts) == CAPTIONS
        assert all(texts)
        if sample["changed"] == UNCHANGED:
            continue
        name = NAMES[sample["changed"]]
        value = getattr(make_picture(seed)[0], name)
        if name.endswith("_colour"):
            told += 1
            ways = {value, *CLOTH_COLOUR_WORDS.get(value, ()), *HAIR_COLOUR_WORDS.get(value, ())}
            ways |= set(SYNONYMS.get(value, ()))
            assert all(any(way in text for way in ways) for text in texts), (value, texts)
    assert told > 3


def test_held_out_poses_can_be_drawn():
    sample = draw_sample(3, families=HELD_OUT_FAMILIES, changed_share=0.0)
    assert sample["changed"] == UNCHANGED
    assert not np.array_equal(sample["picture"], draw_sample(3, changed_share=0.0)["picture"])


def test_samples_come_from_a_pool_whole():
    make = partial(draw_sample, width=192, height=320)
    with Pool(make, 6, workers=2, seed=1, refresh=0) as pool:
        pool.wait()
        taken = pool.take(np.random.default_rng(0), 4)
    assert taken["picture"].shape == (4, 320, 192, 3)
    assert all(read_texts(taken["captions"][:, 0]))


def test_making_samples_needs_no_torch():
    program = "import sys, training.toon.samples; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_target_of_a_sample_is_the_picture_of_its_seed():
    """The autoencoder learns from what is predicted of samples, by their seeds."""
    character, shot = make_picture(5)
    assert np.array_equal(draw(character, shot, 256, 256).picture, draw_sample(5)["picture"])
