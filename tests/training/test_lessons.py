"""Lessons: what the denoiser is shown, and what is left out of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training.toon.attributes import ATTRIBUTES
from training.toon.encoders import tokenize
from training.toon.lessons import Drops, Lessons, Samples
from training.toon.networks import PATCH, PICTURE_PATCH
from training.toon.samples import UNCHANGED, choose_shape, read_texts
from training.toon.tokenizer import make_tokenizer

from understudy.engines.toon_autoencoder import ToonAutoencoder

NOTHING = Drops(
    reference=0, text_without_reference=0, negative_without_reference=0, text=0, empty_text=0, skeleton=0
)


@pytest.fixture(scope="module")
def lessons():
    torch.manual_seed(0)
    return Lessons(
        ToonAutoencoder().eval(),
        make_tokenizer(),
        seed=0,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module")
def samples():
    with Samples(24, workers=1, refresh=50.0, seed=0) as made:
        made.wait(1.0)
        yield made


def test_with_nothing_left_out_all_conditions_are_there(lessons, samples):
    rng = np.random.default_rng(0)
    batch = lessons.teach(samples.take(rng, 4, choose_shape(rng)), rng, NOTHING)
    height, width = batch.latents.shape[2:]
    assert batch.pictures.shape == (4, 3, PICTURE_PATCH * height, PICTURE_PATCH * width)
    assert batch.conditions.skeletons.shape == (4, 3, PATCH * height, PATCH * width)
    assert batch.parts.shape == (4, 2 * height, 2 * width)
    assert batch.conditions.text_given.all()
    assert len({tuple(row) for row in batch.conditions.token_ids.tolist()}) > 1
    assert batch.conditions.references.flatten(1).any(dim=1).all()
    assert batch.answers.shape == (4, len(ATTRIBUTES))
    assert (batch.answers >= 0).any(dim=1).all()
    assert (batch.conditions.skeletons.flatten(1).max(dim=1).values > 0.3).all()


def test_what_is_left_out_is_left_out(lessons, samples):
    rng = np.random.default_rng(1)
    batch = lessons.teach(
        samples.take(rng, 4, choose_shape(rng)),
        rng,
        replace(NOTHING, reference=1, text_without_reference=1, skeleton=1),
    )
    bare = batch.conditions
    assert not bare.text_given.any()
    assert not bare.references.any()
    assert (batch.answers == -1).all()
    assert not bare.skeletons.any()
    taken = samples.take(rng, 8, choose_shape(rng)) | {"changed": np.array([UNCHANGED, 3] * 4)}
    silent = lessons.teach(dict(taken), rng, replace(NOTHING, empty_text=1)).conditions
    assert silent.text_given.all()
    is_empty = (silent.token_ids == lessons._empty_prompt).all(dim=1)
    assert is_empty.tolist() == [True, False] * 4, "a reference that shows something else needs its prompt"
    mute = lessons.teach(dict(taken), rng, replace(NOTHING, text=1)).conditions
    assert mute.text_given.tolist() == [0.0, 1.0] * 4


def test_a_negative_prompt_stands_without_a_reference(lessons, samples):
    rng = np.random.default_rng(2)
    taken = samples.take(rng, 4, choose_shape(rng))
    alone = lessons.teach(taken, rng, replace(NOTHING, reference=1, negative_without_reference=1)).conditions
    told = tokenize(lessons.tokenizer, read_texts(taken["negative"]), torch.device("cpu"))
    assert torch.equal(alone.token_ids, told)
    assert alone.text_given.all()
    assert not alone.references.any()


def test_held_out_lessons_are_the_same_each_time(lessons):
    once, again = lessons.hold_out(2), lessons.hold_out(2)
    assert torch.equal(once.latents, again.latents)
    assert torch.equal(once.conditions.token_ids, again.conditions.token_ids)
    assert not torch.equal(once.pictures[0], once.pictures[1])


def test_pictures_come_back_at_their_size(lessons):
    held_out = lessons.hold_out(1)
    assert lessons.decode(held_out.latents).shape == held_out.pictures.shape
