"""SDXL's presets, and LoRAs of a user's own, on a tiny checkpoint of the true layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from safetensors.torch import save_file

from understudy.engines import EngineError
from understudy.engines.checkpoint import find_checkpoint, load_pipeline
from understudy.engines.presets import choose_sdxl
from understudy.settings import Lora, Settings

from . import tiny_sdxl


def draw_one(engine, request) -> bytes:
    (result,) = engine.draw([request], lambda *step: True)
    return result.picture.tobytes()


@pytest.fixture(scope="module")
def plain() -> dict[str, bytes]:
    """What is drawn without a LoRA, once."""
    return {}


@pytest.fixture
def own(plain, sdxl, request_of) -> bytes:
    if not plain:
        plain["drawn"] = draw_one(sdxl, request_of(steps=2))
    return plain["drawn"]


def test_a_preset_says_what_does_not_act():
    quality, hyper, lightning = (
        choose_sdxl(Settings(sdxl_preset=name)) for name in ("quality", "hyper", "lightning")
    )
    assert (quality.guided, quality.most_steps) == (True, None)
    assert (hyper.guided, hyper.most_steps) == (True, 8)
    assert (lightning.guided, lightning.most_steps) == (False, 8)
    assert not quality.idle
    assert set(lightning.idle) == {"guidance_scale", "negative_prompt"}


@pytest.mark.parametrize(
    ("preset", "kind", "spacing"),
    [
        ("quality", DPMSolverMultistepScheduler, None),
        ("hyper", EulerDiscreteScheduler, "trailing"),
        ("lightning", EulerDiscreteScheduler, "trailing"),
    ],
)
def test_a_preset_has_its_scheduler_and_its_steps(make_sdxl, sdxl_lora, request_of, preset, kind, spacing):
    engine = make_sdxl(sdxl_preset=preset, sdxl_preset_lora=sdxl_lora)
    scheduler = engine._posed.scheduler
    assert type(scheduler) is kind
    assert spacing in (None, scheduler.config.timestep_spacing)
    rows = []
    handle = engine._posed.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    shown = []
    try:
        (result,) = engine.draw([request_of(steps=12)], lambda *step: shown.append(step[3]) or True)
    finally:
        handle.remove()
    assert len(rows) == (12 if preset == "quality" else 8)
    assert set(rows) == {1 if preset == "lightning" else 2}, "guidance runs the network with two rows"
    assert any(shown)
    told = [warning.split()[0] for warning in result.warnings]
    assert told == ([] if preset == "quality" else ["steps"])


def test_the_default_number_of_steps_is_no_wish(sdxl_lightning, request_of):
    seen = []
    (result,) = sdxl_lightning.draw([request_of(steps=10)], lambda *step: seen.append(step[1:3]) or True)
    assert seen[-1] == (8, 8)
    assert result.warnings == []


@pytest.mark.parametrize(
    "form", [{}, {"trainers_names": True}, {"part": "text_encoder"}], ids=["diffusers", "sd-scripts", "text"]
)
def test_a_lora_acts_by_its_weight(make_sdxl, sdxl_settings, tmp_path, request_of, own, form):
    file = tmp_path / "tiny.safetensors"
    tiny_sdxl.write_lora(file, sdxl_settings, **form)
    drawn = {
        weight: draw_one(make_sdxl(sdxl_loras=f"{file}@{weight}"), request_of(steps=2))
        for weight in ("0", "0.5", "1")
    }
    assert drawn["0"] == own
    assert len(set(drawn.values())) == 3


def test_several_loras_act_together(make_sdxl, sdxl_settings, sdxl_lora, tmp_path, request_of, own):
    folder = tmp_path / "words"
    folder.mkdir()
    tiny_sdxl.write_lora(folder / "tiny.safetensors", sdxl_settings, "text_encoder")
    both = draw_one(make_sdxl(sdxl_loras=f"{sdxl_lora}, {folder}@0.8"), request_of(steps=2))
    one = draw_one(make_sdxl(sdxl_loras=sdxl_lora), request_of(steps=2))
    assert len({both, one, own}) == 3
    undone = make_sdxl(sdxl_loras=f"{sdxl_lora}@1,{sdxl_lora}@-1")
    assert torch.allclose(
        undone._posed.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q.weight,
        load_pipeline(find_checkpoint(sdxl_settings), "cpu")
        .unet.down_blocks[1]
        .attentions[0]
        .transformer_blocks[0]
        .attn1.to_q.weight,
        atol=1e-6,
    )


def write_bad(kind: str, folder: Path) -> str:
    file = folder / "bad.safetensors"
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    if kind == "nothing":
        save_file({"transformer.blocks.0.to_q.lora_A.weight": torch.ones(2, 8)}, file)
    elif kind == "other shapes":
        save_file(
            {f"{layer}.lora_A.weight": torch.ones(2, 320), f"{layer}.lora_B.weight": torch.ones(320, 2)}, file
        )
    elif kind == "a pickle":
        torch.save({f"{layer}.lora_A.weight": torch.ones(2, 64)}, file)
    elif kind == "two files":
        for name in ("one", "two"):
            save_file({"x": torch.ones(1)}, folder / f"{name}.safetensors")
        return str(folder)
    return str(file)


@pytest.mark.parametrize("kind", ["nothing", "other shapes", "a pickle", "missing", "two files"])
@pytest.mark.parametrize("setting", ["sdxl_loras", "sdxl_preset_lora"])
def test_a_lora_that_cannot_act_is_a_clear_error(make_sdxl, tmp_path, kind, setting):
    place = write_bad(kind, tmp_path)
    with pytest.raises(EngineError) as raised:
        make_sdxl(**{"sdxl_preset": "hyper", "sdxl_preset_lora": place, setting: place})
    assert raised.value.code == "engine_load_failed"
    assert "UNDERSTUDY_SDXL_PRESET_LORA" in raised.value.message


@pytest.mark.parametrize("missing", ["sdxl_ip_adapter_weights", "sdxl_ip_adapter_face_weights"])
def test_an_adapter_that_is_missing_is_a_clear_error(make_sdxl, missing):
    with pytest.raises(EngineError) as raised:
        make_sdxl(**{missing: "none.safetensors"})
    assert raised.value.code == "engine_load_failed"
    assert "UNDERSTUDY_SDXL_IP_ADAPTER" in raised.value.message


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("owner/name", ("owner/name", None, 1.0)),
        ("owner/name@0.7", ("owner/name", None, 0.7)),
        ("owner/name/ink.safetensors@-1", ("owner/name", "ink.safetensors", -1.0)),
        ("owner/name/sdxl/ink.safetensors", ("owner/name", "sdxl/ink.safetensors", 1.0)),
        ("/loras/my/own/ink.safetensors@1.5", ("/loras/my/own/ink.safetensors", None, 1.5)),
        ("./my/own/ink.safetensors", ("./my/own/ink.safetensors", None, 1.0)),
        ("/loras/me@home", ("/loras/me@home", None, 1.0)),
    ],
)
def test_a_lora_is_a_place_and_a_weight(text, lora):
    assert Settings(sdxl_loras=f" {text} ,").all_sdxl_loras == [Lora("sdxl_loras", *lora)]


def test_a_lora_of_a_folder_that_has_a_weights_sign_is_found(tmp_path):
    folder = tmp_path / "ink@2"
    folder.mkdir()
    assert Settings(sdxl_loras=f"{folder}").all_sdxl_loras == [Lora("sdxl_loras", str(folder), None, 1.0)]


@pytest.mark.parametrize("text", ["@0.5", "/", "owner/name, @1"])
def test_a_lora_without_a_place_is_no_setting(text):
    with pytest.raises(ValueError, match="names no place"):
        Settings(sdxl_loras=text)


def test_the_presets_lora_comes_first():
    settings = Settings(sdxl_preset="lightning", sdxl_loras="owner/name")
    assert [lora.place for lora in settings.all_sdxl_loras] == ["ByteDance/SDXL-Lightning", "owner/name"]
    assert settings.all_sdxl_loras[0].file == "sdxl_lightning_8step_lora.safetensors"
    assert Settings(sdxl_loras="owner/name").all_sdxl_loras[0].place == "owner/name"
