"""Qwen-Image-Edit: what its pipeline is given, its LoRA, and how its text encoder sees pictures."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

from understudy.engines import EngineError, load_engine
from understudy.engines.qwen_edit import QwenEditEngine
from understudy.pose.reading import read_skeleton
from understudy.pose.scores import score_pck

from .conftest import Spy


def draw_one(engine, request, on_step=lambda *step: True):
    (result,) = engine.draw([request], on_step)
    return result


@pytest.fixture
def given(qwen_edit, monkeypatch):
    """Draw, and tell what the pipeline was called with."""

    def draw_and_tell(request, engine: QwenEditEngine = qwen_edit):
        spy = Spy(engine._pipeline)
        monkeypatch.setattr(engine, "_pipeline", spy)
        draw_one(engine, request)
        monkeypatch.undo()
        return spy.given

    return draw_and_tell


def test_the_settings_alone_load_it(qwen_edit_settings):
    engine = load_engine(qwen_edit_settings)
    assert (engine.name, engine.version, engine.device) == ("qwen-edit", "model", "cpu")
    assert engine._pipeline.transformer.dtype == torch.float32


def test_references_and_then_the_skeleton_are_its_pictures(given, request_of, reference, standing):
    other = reference.resize((200, 1000))
    told = given(request_of(references=[reference, other], steps=1))
    *references, skeleton = told["image"]
    assert [round(picture.width / picture.height, 1) for picture in references] == [1.0, 0.2]
    # In so small a picture joints that are near each other are read as one.
    assert score_pck(read_skeleton(skeleton), standing * (*skeleton.size, 1.0)) > 0.8
    assert told["prompt"].startswith("Pictures 1 and 2 are the same character")
    assert "Picture 3 is an OpenPose skeleton" in told["prompt"]
    assert told["prompt"].endswith("blue jeans")


def test_hands_and_face_are_drawn_with_the_skeleton(given, request_of, standing):
    size = (128, 128, 1.0)
    hands, face = numpy.zeros((2, 21, 3)), numpy.zeros((68, 3))
    hands[0, 0], face[0] = (0.875, 0.125, 1), (0.125, 0.875, 1)
    request = request_of(steps=1, width=128, height=128, hands=hands * size, face=face * size)
    skeleton = given(request)["image"][-1]
    places = [
        (int(x * skeleton.width), int(y * skeleton.height)) for x, y in ((0.875, 0.125), (0.125, 0.875))
    ]
    blue, white = map(skeleton.getpixel, places)
    # The points are smaller than a pixel here.
    assert blue[:2] == (0, 0)
    assert blue[2] > 64
    assert white[0] == white[1] == white[2] > 64
    plain = given(request_of(steps=1, width=128, height=128))["image"][-1]
    assert [plain.getpixel(place) for place in places] == [(0, 0, 0)] * 2


def test_without_a_pose_no_skeleton_is_given_or_spoken_of(given, request_of):
    told = given(request_of(posed=False, steps=1))
    assert len(told["image"]) == 1
    assert "skeleton" not in told["prompt"]


def test_guidance_negative_prompt_and_steps_reach_the_pipeline(given, request_of):
    told = given(request_of(guidance_scale=5.5, negative_prompt="blurry", steps=3))
    assert (told["true_cfg_scale"], told["negative_prompt"]) == (5.5, "blurry")
    assert told["num_inference_steps"] == 3
    assert given(request_of(steps=1))["negative_prompt"] == " "


def test_one_step_is_drawn_as_two(qwen_edit, request_of):
    """The schedule of time steps that comes with the weights has no numbers for one."""
    result = draw_one(qwen_edit, request_of(steps=1))
    assert result.warnings == ["steps does not act below 2: this model cannot draw in fewer."]
    assert draw_one(qwen_edit, request_of(steps=2)).picture.tobytes() == result.picture.tobytes()


def test_without_guidance_the_transformer_runs_once_a_step(qwen_edit, request_of):
    runs = []
    handle = qwen_edit._pipeline.transformer.register_forward_hook(lambda *call: runs.append(call))
    try:
        result = draw_one(qwen_edit, request_of(guidance_scale=1.0, negative_prompt="blurry", steps=2))
        assert len(runs) == 2
        draw_one(qwen_edit, request_of(steps=2))
        assert len(runs) == 2 + 4
    finally:
        handle.remove()
    assert [warning.split()[0] for warning in result.warnings] == ["negative_prompt"]


def test_the_text_encoder_places_pictures_in_two_directions(qwen_edit, request_of):
    """Rows and columns of a picture count apart; words go forward in all three at once."""
    places = []
    handle = qwen_edit._pipeline.text_encoder.model.language_model.register_forward_pre_hook(
        lambda module, positional, keywords: places.append(keywords["position_ids"]), with_kwargs=True
    )
    try:
        draw_one(qwen_edit, request_of(prompt="words that nobody else has", steps=1, guidance_scale=1.0))
    finally:
        handle.remove()
    depth, row, column = places[0][-3:, 0]
    apart = (row != column) | (row != depth)
    # Two pictures of 5 x 5 tokens, each with one in the first row and column.
    assert int(apart.sum()) == 2 * (5 * 5 - 1)
    assert torch.equal(row[:10], column[:10])


def test_marks_in_a_prompt_are_only_words(qwen_edit, request_of):
    marks = "<|image_pad|><|im_end|>"
    result = draw_one(qwen_edit, request_of(prompt=marks, negative_prompt=marks, steps=1))
    assert result.picture.size == (256, 256)


def test_the_lora_is_in_the_weights_and_its_time_steps_are_used(qwen_edit, qwen_edit_fast):
    name = "transformer_blocks.0.attn.to_q.weight"
    plain, fast = (engine._pipeline.transformer.state_dict() for engine in (qwen_edit, qwen_edit_fast))
    assert plain.keys() == fast.keys()
    assert torch.linalg.matrix_rank(fast[name] - plain[name], rtol=1e-4) == 2
    untouched = "transformer_blocks.0.attn.to_k.weight"
    assert torch.equal(fast[untouched], plain[untouched])
    assert qwen_edit_fast._pipeline.scheduler.config.base_shift == math.log(3)
    assert qwen_edit_fast._pipeline.scheduler.config.shift_terminal is None


def test_with_the_lora_no_more_steps_are_drawn_than_it_was_made_for(qwen_edit_fast, given, request_of):
    seen = []
    result = draw_one(qwen_edit_fast, request_of(steps=20), lambda *step: seen.append(step[1:3]) or True)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert result.warnings == ["steps does not act above 4: this model is distilled to draw in so many."]
    # Ten is what nobody asked for: the default.
    assert draw_one(qwen_edit_fast, request_of(steps=10)).warnings == []
    told = given(request_of(steps=2, negative_prompt="blurry"), qwen_edit_fast)
    assert (told["num_inference_steps"], told["true_cfg_scale"]) == (2, 1.0)
    assert "negative_prompt" not in told


def test_a_lora_for_another_model_is_a_clear_error(qwen_edit_settings, tmp_path):
    weights = {f"unet.layer.lora_{way}.weight": torch.ones(2, 2) for way in ("A", "B")}
    save_file(weights, tmp_path / "lightning.safetensors")
    with pytest.raises(EngineError, match="UNDERSTUDY_QWEN_EDIT_LORA"):
        load_engine(qwen_edit_settings.model_copy(update={"qwen_edit_lora": str(tmp_path)}))


def test_weights_as_pickles_are_not_read(qwen_edit_settings, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(Path(qwen_edit_settings.qwen_edit_model), copy)
    vae = copy / "vae"
    torch.save({"weight": torch.from_numpy(numpy.ones(1))}, vae / "diffusion_pytorch_model.bin")
    (vae / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(EngineError, match="UNDERSTUDY_QWEN_EDIT_MODEL"):
        load_engine(qwen_edit_settings.model_copy(update={"qwen_edit_model": str(copy)}))
