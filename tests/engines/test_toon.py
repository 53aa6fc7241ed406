"""The embedded engine with its real weights.

What it has in common with every engine is in test_conformance.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image

from understudy.engines import load_engine
from understudy.pose import find_pose, fit_skeleton
from understudy.settings import Settings

from .conftest import measure_psnr


def go_on(index, step, steps, preview):
    return True


def draw_one(engine, request, on_step=go_on):
    (result,) = engine.draw([request], on_step)
    return result


def draw(engine, request) -> bytes:
    return draw_one(engine, request, go_on).picture.tobytes()


def mean_difference(first, second) -> float:
    first, second = (numpy.asarray(picture, dtype=float) for picture in (first, second))
    return float(numpy.abs(first - second).mean())


def test_a_fresh_engine_with_empty_caches_draws_the_same(toon, request_of):
    request = request_of(negative_prompt="blurry")
    warm = [draw(toon, request) for _ in range(2)][-1]
    fresh = load_engine(Settings(engine="toon", device="cpu"))
    # As another engine would that is loaded in between.
    torch.set_num_threads(3)
    assert draw(fresh, request) == warm


def test_embeddings_are_kept_for_the_next_picture_of_a_sheet(toon, request_of):
    draw(toon, request_of(prompt="a prompt of its own"))
    encoder = toon._posed.text_encoder_2
    calls = []
    handle = encoder.register_forward_hook(lambda *call: calls.append(call))
    try:
        draw(toon, request_of(prompt="a prompt of its own", seed=8))
        assert not calls
        draw(toon, request_of(prompt="another prompt"))
        assert calls
    finally:
        handle.remove()


def test_the_figure_follows_the_pose(toon, request_of, standing):
    """Where the arms are raised there is paint, which the standing figure has not there."""
    raised = standing.copy()
    raised[[3, 6], 1] = 0.26
    raised[[3, 6], 0] = (0.30, 0.70)
    raised[[4, 7], 1] = 0.12
    raised[[4, 7], 0] = (0.26, 0.74)
    size = (256, 256, 1.0)
    down = numpy.asarray(draw_one(toon, request_of(steps=10), go_on).picture, dtype=float)
    up = draw_one(toon, request_of(steps=10, skeleton=raised * size), go_on).picture
    changed = numpy.abs(numpy.asarray(up, dtype=float) - down).mean(axis=2)
    hands, far = changed[20:75, 55:85], changed[:60, :25]
    assert hands.mean() > 2 * far.mean()


def test_the_reference_gives_the_colours(toon, request_of, reference):
    pixels = numpy.asarray(reference).copy()
    red = (pixels[..., 0] > 120) & (pixels[..., 1] < 90)
    pixels[red] = (60, 160, 90)
    other = draw_one(
        toon, request_of(prompt="young man", references=[Image.fromarray(pixels)], steps=10), go_on
    )
    own = draw_one(toon, request_of(prompt="young man", steps=10), go_on)

    def redness(picture):
        shirt = numpy.asarray(picture, dtype=float)[100:150, 90:166]
        return (shirt[..., 0] - shirt[..., 1]).mean()

    assert redness(own.picture) > redness(other.picture) + 10


@pytest.mark.parametrize(
    ("prompt", "pose"), [("young man", "stand"), ("young man, running in a park", "run")], ids=str
)
def test_without_a_pose_it_takes_that_of_the_prompt_or_stands(toon, request_of, prompt, pose):
    free = draw_one(toon, request_of(prompt=prompt, posed=False, steps=2), go_on)
    posed = request_of(prompt=prompt, steps=2)
    skeleton = fit_skeleton(find_pose(pose).keypoints, posed.width, posed.height)
    named = draw_one(toon, replace(posed, skeleton=skeleton), go_on)
    assert free.picture.tobytes() == named.picture.tobytes()
    assert [warning for warning in free.warnings if pose in warning]
    assert not named.warnings


def test_steps_are_counted_and_sometimes_shown(toon, request_of):
    seen = []

    def watch(index, step, steps, preview):
        seen.append((step, steps, preview))
        return True

    picture = draw_one(toon, request_of(steps=10), watch).picture
    assert [(step, steps) for step, steps, _ in seen] == [(step, 10) for step in range(1, 11)]
    shown = {step: preview for step, _, preview in seen if preview is not None}
    assert list(shown) == [3, 6, 9]
    assert all(preview.size == (256, 256) for preview in shown.values())
    distances = [mean_difference(preview.resize(picture.size), picture) for preview in shown.values()]
    assert distances == sorted(distances, reverse=True)


def test_a_long_drawing_shows_at_most_five_previews(toon, request_of):
    shown = []
    draw_one(toon, request_of(steps=20), lambda index, step, steps, preview: shown.append(preview) or True)
    assert 3 <= sum(preview is not None for preview in shown) <= 5


@pytest.mark.parametrize("changes", [{"guidance_scale": 1.0}, {"posed": False}], ids=str)
def test_a_batch_draws_each_picture_as_it_would_be_alone(toon, request_varied, changes):
    requests = [request_varied(number, **changes) for number in range(3)]
    together = toon.draw(requests, go_on)
    alone = [draw_one(toon, request) for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert measure_psnr(one.picture, other.picture) >= 45
        assert one.warnings == other.warnings
    assert measure_psnr(alone[0].picture, alone[1].picture) < 40


def test_a_prompt_longer_than_the_model_reads_is_told(toon, request_of):
    result = draw_one(toon, request_of(prompt="a red plaid shirt, " * 40, negative_prompt="blurry"), go_on)
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("The prompt has ")
    assert "reads the first 75" in result.warnings[0]
    assert draw_one(toon, request_of(), go_on).warnings == []


def test_the_reference_is_most_like_itself(toon, request_of, reference):
    assert toon.score_likeness([reference], reference) == pytest.approx(1, abs=1e-5)
    same = draw_one(toon, request_of(steps=10), go_on).picture
    other = draw_one(
        toon, request_of(steps=10, prompt="old woman, white hair, green dress", ip_scale=0.0), go_on
    ).picture
    alike, unlike = toon.score_likeness([reference], same), toon.score_likeness([reference], other)
    assert 0 <= unlike < alike < 1


def test_several_references_are_one_character(toon, request_of, reference):
    """The same picture twice says nothing new; another one beside it does."""
    other = Image.fromarray(numpy.roll(numpy.asarray(reference), 1, axis=2))
    once = draw_one(toon, request_of()).picture
    twice = draw_one(toon, request_of(references=[reference, reference])).picture
    mixed = draw_one(toon, request_of(references=[reference, other])).picture
    assert measure_psnr(once, twice) >= 45
    assert measure_psnr(once, mixed) < 40
    both = toon.score_likeness([reference, other], once)
    alone = [toon.score_likeness([one], once) for one in (reference, other)]
    assert min(alone) < both
