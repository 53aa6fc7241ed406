"""FLUX.2-klein: what its pipeline is given, by its two presets."""

from __future__ import annotations

import pytest
import torch

from understudy.engines import EngineError, load_engine
from understudy.pose.reading import read_skeleton
from understudy.pose.scores import score_pck

from .conftest import SMALL, Spy


def draw_one(engine, request, on_step=lambda *step: True):
    (result,) = engine.draw([request], on_step)
    return result


@pytest.fixture
def given(monkeypatch):
    """Draw, and tell what the pipeline was called with."""

    def draw_and_tell(engine, request):
        spy = Spy(engine._pipeline)
        monkeypatch.setattr(engine, "_pipeline", spy)
        draw_one(engine, request)
        monkeypatch.undo()
        return spy.given

    return draw_and_tell


def test_the_settings_alone_load_it(flux2_base_settings):
    engine = load_engine(flux2_base_settings)
    assert (engine.name, engine.version, engine.device) == ("flux2-klein", "model", "cpu")
    assert engine._pipeline.transformer.dtype == torch.float32


def test_references_and_then_the_skeleton_are_its_pictures(
    flux2_base, given, request_of, reference, standing
):
    told = given(flux2_base, request_of(references=[reference] * 3, steps=1))
    *references, skeleton = told["image"]
    assert [picture.width * picture.height for picture in references] == [SMALL.reference_pixels] * 3
    assert skeleton.width * skeleton.height == SMALL.pose_pixels
    # In so small a picture joints that are near each other are read as one.
    assert score_pck(read_skeleton(skeleton), standing * (*skeleton.size, 1.0)) > 0.8
    assert told["prompt"].startswith("Images 1 to 3 are the same character")
    assert "Image 4 is an OpenPose skeleton" in told["prompt"]


def test_the_negative_prompt_is_encoded_for_the_base_weights(flux2_base, given, request_of):
    told = given(flux2_base, request_of(negative_prompt="blurry", guidance_scale=5.5, steps=3))
    assert (told["guidance_scale"], told["num_inference_steps"]) == (5.5, 3)
    with torch.no_grad():
        blurry, _ = flux2_base._pipeline.encode_prompt("blurry")
    assert torch.equal(told["negative_prompt_embeds"], blurry)


def test_the_distilled_weights_draw_without_guidance(flux2_distilled, given, request_of):
    asked = request_of(negative_prompt="blurry", guidance_scale=5.5, steps=20, pose_scale=0.5)
    told = given(flux2_distilled, asked)
    assert (told["guidance_scale"], told["num_inference_steps"]) == (1.0, 4)
    assert "negative_prompt_embeds" not in told
    warnings = draw_one(flux2_distilled, asked).warnings
    assert {warning.split()[0] for warning in warnings} == {
        "guidance_scale",
        "negative_prompt",
        "pose_scale",
        "steps",
    }
    assert len(warnings) == 4


def test_a_prompt_that_is_not_read_to_its_end_is_told(flux2_base, request_of):
    """A byte is a token here, and the model reads 512 with what is said of the pictures."""
    result = draw_one(flux2_base, request_of(prompt="a red plaid shirt, " * 40, steps=1))
    (warning,) = result.warnings
    assert warning.startswith("The prompt has 760 tokens; the model reads the first ")


@pytest.mark.parametrize(("preset", "kind"), [("distilled", "base")])
def test_weights_of_the_other_kind_are_a_clear_error(flux2_base_settings, preset, kind):
    with pytest.raises(EngineError, match=f"set UNDERSTUDY_FLUX2_KLEIN_PRESET to {kind}") as raised:
        load_engine(flux2_base_settings.model_copy(update={"flux2_klein_preset": preset}))
    assert raised.value.code == "engine_load_failed"
