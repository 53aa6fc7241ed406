"""The face of the character: an adapter that reads it, and a pass that draws it anew."""

from __future__ import annotations

from functools import partial

import numpy
import pytest
import torch
from PIL import Image

from understudy.engines import load_engine
from understudy.engines.face_pass import MARGIN, Square, choose_square, make_mask
from understudy.pose.skeleton import find_face
from understudy.settings import Settings

from .conftest import measure_psnr


def go_on(index, step, steps, preview):
    return True


def draw_one(engine, request, on_step=go_on):
    (result,) = engine.draw([request], on_step)
    return result


def read_scales(engine) -> set[tuple[float, ...]]:
    """The strengths of the adapters, of every attention that has some."""
    processors = engine._posed.unet.attn_processors.values()
    return {tuple(processor.scale) for processor in processors if hasattr(processor, "scale")}


@pytest.fixture
def request_of(request_of):
    """The same in two steps, to be quick."""
    return partial(request_of, steps=2)


@pytest.fixture(scope="module")
def nobody(reference) -> Image.Image:
    """A picture of as many colours as the reference, which shows nobody."""
    pixels = numpy.asarray(reference).reshape(-1, 3)
    shuffled = numpy.random.default_rng(1).permutation(pixels)
    return Image.fromarray(shuffled.reshape(*reference.size[::-1], 3))


@pytest.fixture(scope="module")
def redrawing(make_sdxl):
    """The tiny checkpoint with a face pass."""
    return make_sdxl(face_pass=True)


@pytest.fixture
def far(request_of, standing):
    """Make a request of a figure that is half as tall as its picture."""
    small = standing * (0.5, 0.5, 1.0) + (0.25, 0.4, 0.0)

    def make(**changes):
        return request_of(skeleton=small * (256, 256, 1.0), **changes)

    return make


def test_the_face_acts_where_one_is_found(sdxl, make_sdxl, request_of, nobody):
    blind = make_sdxl(sees=False)
    without = make_sdxl(sdxl_ip_adapter_face_weights="")
    drawn = {engine: draw_one(engine, request_of()).picture for engine in (sdxl, blind, without)}
    assert drawn[blind].tobytes() == drawn[without].tobytes()
    assert measure_psnr(drawn[sdxl], drawn[without]) < 45
    unseen = request_of(references=[nobody])
    assert draw_one(sdxl, unseen).picture.tobytes() == draw_one(without, unseen).picture.tobytes()


def test_the_reference_strength_reaches_both_adapters(sdxl, request_of, nobody):
    draw_one(sdxl, request_of(steps=1, ip_scale=0.4))
    assert read_scales(sdxl) == {(0.4, 0.2)}
    draw_one(sdxl, request_of(steps=1))
    assert read_scales(sdxl) == {(0.7, 0.35)}
    draw_one(sdxl, request_of(steps=1, references=[nobody]))
    assert read_scales(sdxl) == {(0.7, 0.0)}


def test_without_strength_the_character_is_nobody(sdxl, request_of, request_varied):
    pictures = {
        draw_one(
            sdxl, request_of(references=request_varied(number).references, ip_scale=0.0, steps=2)
        ).picture.tobytes()
        for number in range(3)
    }
    assert len(pictures) == 1


def test_a_batch_of_faces_and_none_draws_each_as_alone(sdxl, request_varied, request_of, nobody):
    requests = [
        request_varied(0),
        request_of(references=[nobody], seed=5),
        request_varied(1),
        request_of(references=[nobody], seed=6),
    ]
    seen = []
    together = sdxl.draw(requests, lambda *step: seen.append(step[0]) or True)
    for one, request in zip(together, requests, strict=True):
        assert measure_psnr(one.picture, draw_one(sdxl, request).picture) >= 45
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert all(seen.count(index) == requests[0].steps for index in range(4))


def test_the_faces_of_all_references_are_read(sdxl, request_of, reference, nobody):
    turned = Image.fromarray(numpy.roll(numpy.asarray(reference), 1, axis=2))
    seen = []
    layer = sdxl._posed.unet.encoder_hid_proj.image_projection_layers[1]
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    try:
        draw_one(sdxl, request_of(references=[reference, nobody, turned], steps=1, guidance_scale=1.0))
    finally:
        handle.remove()
    assert seen == [2]


def test_outside_the_mask_every_pixel_stays(sdxl, redrawing, far):
    request = far()
    before = numpy.asarray(draw_one(sdxl, request).picture)
    result = draw_one(redrawing, request)
    after = numpy.asarray(result.picture)
    square = choose_square(find_face(request.skeleton, 256, 256, MARGIN), (256, 256), 256 * 256)
    share = numpy.zeros((256, 256))
    left, top, right, bottom = square.box
    share[top:bottom, left:right] = make_mask(square.side)
    assert (after == before)[share == 0].all()
    assert numpy.abs(after.astype(int) - before)[share > 0.9].mean() > 1
    assert result.warnings == []


def test_its_steps_are_counted_with_the_others(redrawing, far):
    seen = []
    draw_one(redrawing, far(steps=10), lambda *step: seen.append(step) or True)
    steps = seen[0][2]
    assert 12 <= steps <= 16
    assert [step[:3] for step in seen] == [(0, number, steps) for number in range(1, steps + 1)]
    assert not any(preview for _, step, _, preview in seen if step > 10)


def test_it_can_be_cancelled(redrawing, far):
    seen = []
    assert draw_one(redrawing, far(steps=10), lambda *step: seen.append(step[1]) or step[1] < 11) is None
    assert seen[-1] == 11
    assert draw_one(redrawing, far(steps=1)) is not None


@pytest.mark.parametrize("unposed", [True, False], ids=["no face", "a large face"])
def test_without_a_small_face_a_picture_stays(sdxl, redrawing, request_of, standing, unposed):
    large = standing * (2.5, 2.5, 1.0) - (0.75, 0.3, 0.0)
    request = request_of(posed=False) if unposed else request_of(skeleton=large * (256, 256, 1.0))
    seen = []
    result = draw_one(redrawing, request, lambda *step: seen.append(step[1:3]) or True)
    assert result.picture.tobytes() == draw_one(sdxl, request).picture.tobytes()
    assert len(result.warnings) == unposed
    assert seen[-1][0] == seen[-1][1], "the steps of the face count as done"


def test_in_a_batch_each_face_is_drawn_as_alone(redrawing, far, request_varied, request_of, standing):
    large = (standing * (2.5, 2.5, 1.0) - (0.75, 0.3, 0.0)) * (256, 256, 1.0)
    requests = [far(seed=1), request_of(skeleton=large), far(seed=2, prompt="a robot")]
    together = redrawing.draw(requests, go_on)
    for one, request in zip(together, requests, strict=True):
        assert measure_psnr(one.picture, draw_one(redrawing, request).picture) >= 45

    def cancel_first(index, step, steps, preview):
        return index > 0 or step < 4

    first, second, third = redrawing.draw(requests, cancel_first)
    assert first is None
    assert measure_psnr(second.picture, together[1].picture) >= 45
    assert measure_psnr(third.picture, together[2].picture) >= 45


def test_the_embedded_model_draws_faces_anew_too(toon, request_of, standing):
    engine = load_engine(Settings(engine="toon", device="cpu", sdxl_face_pass=True))
    request = request_of(skeleton=standing * (512, 512, 1.0), width=512, height=512)
    plain, twice = (draw_one(one, request).picture for one in (toon, engine))
    assert numpy.abs(numpy.asarray(twice).astype(int) - plain).max() > 20
    assert measure_psnr(plain, twice) > 20


def test_a_square_lies_within_its_picture():
    assert choose_square((-10, 0, 50, 60), (400, 300), 1024**2) == Square(0, 0, 60)
    assert choose_square((370, 250, 400, 300), (400, 300), 1024**2) == Square(350, 250, 50)


def test_a_face_that_is_no_longer_small_is_left():
    assert choose_square((0, 0, 500, 500), (1024, 1024), 1024**2) is not None
    assert choose_square((0, 0, 800, 800), (1024, 1024), 1024**2) is None
    assert choose_square((0, 0, 20, 20), (1024, 1024), 1024**2) is None
    assert choose_square(None, (1024, 1024), 1024**2) is None


def test_a_mask_is_all_in_the_middle_and_nothing_at_the_edge():
    mask = make_mask(101)
    assert mask[50, 50] == 1
    edge = numpy.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not edge.any()
    assert (numpy.diff(mask[50, :51]) >= 0).all()


def test_a_reference_is_cropped_to_its_face(sdxl, reference):
    seen = []
    encoder = sdxl._posed.image_encoder
    handle = encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    turned = reference.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    try:
        embedding = sdxl._embeddings.encode_reference(turned)
    finally:
        handle.remove()
    assert embedding.shows_face
    whole, face = seen[0], seen[-1]
    assert not torch.equal(whole, face)
    assert face.std() > 0
