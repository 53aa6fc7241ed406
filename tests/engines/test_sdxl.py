"""Real SDXL's layout: a tiny checkpoint on disk, loaded by the production code.

What it has in common with every engine is in test_conformance.py.
"""

from __future__ import annotations

import json
import shutil
import socket

import pytest
from diffusers import AutoencoderKL
from diffusers.models.embeddings import IPAdapterPlusImageProjection

from understudy.engines import EngineError, load_engine
from understudy.engines.checkpoint import find_checkpoint, load_pipeline
from understudy.engines.device import choose_device
from understudy.settings import Settings

from .conftest import measure_psnr


def go_on(index, step, steps, preview):
    return True


def draw_one(engine, request, on_step=go_on):
    (result,) = engine.draw([request], on_step)
    return result


def test_every_part_comes_from_its_own_place(sdxl_settings):
    pipeline = load_pipeline(find_checkpoint(sdxl_settings), "cpu")
    assert pipeline.text_encoder is not None
    assert pipeline.text_encoder_2 is not None
    assert pipeline.tokenizer.pad_token == "<|endoftext|>"
    assert pipeline.tokenizer_2.pad_token == "!"
    assert isinstance(pipeline.vae, AutoencoderKL)
    projection = pipeline.unet.encoder_hid_proj.image_projection_layers[0]
    assert isinstance(projection, IPAdapterPlusImageProjection)
    assert pipeline.image_encoder.config.image_size == 56
    assert pipeline.feature_extractor.crop_size["height"] == 56


def test_it_draws_at_a_megapixel_by_the_settings_alone(sdxl_settings, request_of):
    engine = load_engine(sdxl_settings)
    assert (engine.name, engine.version, engine.device) == ("sdxl", "model", "cpu")
    result = draw_one(engine, request_of(posed=False, width=1000, height=700, steps=1), go_on)
    assert result.picture.size == (1000, 700)


def test_no_pose_leaves_the_controlnet_out(sdxl, request_of):
    calls = []
    handle = sdxl._posed.controlnet.register_forward_hook(lambda *call: calls.append(call))
    try:
        draw_one(sdxl, request_of(posed=False, steps=1), go_on)
        assert not calls
        draw_one(sdxl, request_of(steps=1), go_on)
        assert calls
    finally:
        handle.remove()


def test_no_pose_is_the_same_as_a_pose_of_no_weight(sdxl, request_of):
    without = draw_one(sdxl, request_of(posed=False), go_on).picture.tobytes()
    assert draw_one(sdxl, request_of(pose_scale=0.0), go_on).picture.tobytes() == without


def test_previews_come_without_the_autoencoder(sdxl, request_of):
    calls, shown = [], []
    handle = sdxl._posed.vae.decoder.register_forward_hook(lambda *call: calls.append(call))
    try:
        draw_one(sdxl, request_of(steps=7), lambda index, step, steps, preview: shown.append(preview) or True)
    finally:
        handle.remove()
    assert [preview.size for preview in shown if preview is not None] == [(32, 32)] * 2
    assert len(calls) == 1


def test_likeness_is_from_0_to_1(sdxl, reference, request_of):
    picture = draw_one(sdxl, request_of(), go_on).picture
    assert sdxl.score_likeness([reference], reference) == pytest.approx(1, abs=1e-5)
    assert 0 <= sdxl.score_likeness([reference], picture) < 1


@pytest.mark.parametrize("changes", [{"guidance_scale": 1.0}, {"posed": False}], ids=str)
def test_a_batch_draws_each_picture_as_it_would_be_alone(sdxl, request_varied, changes):
    requests = [request_varied(number, **changes) for number in range(3)]
    together = sdxl.draw(requests, go_on)
    alone = [draw_one(sdxl, request) for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert measure_psnr(one.picture, other.picture) >= 45
        assert one.warnings == other.warnings
    assert measure_psnr(alone[0].picture, alone[1].picture) < 40


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sdxl_controlnet", "UNDERSTUDY_SDXL_CONTROLNET"),
        ("sdxl_vae", "UNDERSTUDY_SDXL_VAE"),
        ("sdxl_ip_adapter", "UNDERSTUDY_SDXL_IP_ADAPTER"),
    ],
)
def test_a_missing_folder_is_named_by_its_setting(sdxl_settings, tmp_path, monkeypatch, setting, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = sdxl_settings.model_copy(update={setting: str(tmp_path / "nowhere")})
    with pytest.raises(EngineError) as raised:
        load_engine(settings)
    assert raised.value.code == "engine_load_failed"
    assert words in raised.value.message
    assert str(tmp_path) not in raised.value.message


def test_weights_of_other_shapes_are_a_clear_error(sdxl_settings, tmp_path):
    shutil.copytree(sdxl_settings.sdxl_model, tmp_path / "model")
    config = tmp_path / "model" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))
    settings = sdxl_settings.model_copy(update={"sdxl_model": str(tmp_path / "model")})
    with pytest.raises(EngineError) as raised:
        load_engine(settings)
    assert raised.value.code == "engine_load_failed"
    assert "UNDERSTUDY_SDXL_MODEL" in raised.value.message


def test_a_device_that_is_not_there_is_a_clear_error():
    with pytest.raises(EngineError, match="UNDERSTUDY_DEVICE"):
        choose_device("cuda:99")


def test_an_unknown_engine_is_no_setting():
    with pytest.raises(ValueError, match="'toon', 'sdxl', 'qwen-edit', 'flux2-klein' or 'null'"):
        Settings(engine="crayon")


def test_nothing_is_fetched_for_local_folders(sdxl_settings, monkeypatch):
    def refuse(*address):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    load_engine(sdxl_settings)
    load_engine(Settings(engine="toon", device="cpu"))
