"""What every engine keeps to, whatever draws in it.

The embedded engine has its real weights, the others tiny ones of the true layout, written to disk and
loaded by the production code.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from understudy.engines import DrawRequest, DrawResult, Engine, EngineError, load_engine
from understudy.engines.sdxl import SdxlEngine
from understudy.settings import Settings

from .conftest import measure_psnr

CHANGES = {
    "prompt": {"prompt": "old woman, white hair, green dress"},
    "negative_prompt": {"negative_prompt": "red plaid shirt"},
    "guidance_scale": {"guidance_scale": 7.0},
    "steps": {"steps": 3},
    "seed": {"seed": 7 + 2**32},
    "ip_scale": {"ip_scale": 0.2},
    "pose_scale": {"pose_scale": 0.2},
    "skeleton": {"posed": False},
}
"""Another value for each parameter of a picture; the others stay as they are."""


@dataclass(frozen=True)
class Subject:
    """An engine, which parameters it says are idle, and the network that it runs in each step."""

    engine: Engine
    idle: frozenset[str]
    network: torch.nn.Module


def go_on(*step) -> bool:
    return True


@pytest.fixture(
    scope="module",
    params=[
        *("toon", "sdxl", "sdxl_lightning"),
        *("qwen_edit", "qwen_edit_fast", "flux2_distilled", "flux2_base"),
    ],
)
def subject(request) -> Subject:
    engine = request.getfixturevalue(request.param)
    network = engine._posed.unet if isinstance(engine, SdxlEngine) else engine._pipeline.transformer
    return Subject(engine, frozenset(engine.preset.idle), network)


@pytest.fixture(scope="module")
def draw(subject: Subject) -> Callable[..., DrawResult]:
    def draw_one(request: DrawRequest, on_step=go_on) -> DrawResult:
        (result,) = subject.engine.draw([request], on_step)
        return result

    return draw_one


@pytest.fixture
def short(request_of) -> Callable[..., DrawRequest]:
    """Make a request that is drawn in two steps."""

    def make(**changes) -> DrawRequest:
        return request_of(**({"steps": 2} | changes))

    return make


@pytest.fixture(scope="module")
def plain(draw) -> dict[str, DrawResult]:
    """What was drawn of the unchanged request, once for each engine."""
    return {}


@pytest.fixture
def own(plain, draw, short) -> DrawResult:
    if not plain:
        plain["drawn"] = draw(short())
    return plain["drawn"]


def test_it_tells_what_it_is(subject):
    engine = subject.engine
    assert engine.name in Settings.model_fields["engine"].annotation.__args__
    assert engine.version
    assert engine.device == "cpu"
    assert engine.batch_size >= 1


def test_the_same_request_gives_identical_bytes(draw, own, short):
    assert draw(short()).picture.tobytes() == own.picture.tobytes()
    assert own.warnings == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_parameter_acts_or_is_said_to_be_idle(subject, draw, own, short, name):
    changed = draw(short(**CHANGES[name]))
    if name in subject.idle:
        assert changed.picture.tobytes() == own.picture.tobytes()
        assert [warning.split()[0] for warning in changed.warnings] == [name]
    else:
        assert changed.picture.tobytes() != own.picture.tobytes()
        # Without a pose the embedded engine takes its usual one, and says so.
        takes_usual_pose = name == "skeleton" and subject.engine.name == "toon"
        assert len(changed.warnings) == takes_usual_pose


def test_the_largest_seed_is_another_picture(draw, own, short):
    assert draw(short(seed=2**53 - 1)).picture.tobytes() != own.picture.tobytes()


def test_every_reference_counts(draw, own, short, reference):
    other = Image.fromarray(numpy.roll(numpy.asarray(reference), 1, axis=2))
    drawn = {
        draw(short(references=pair)).picture.tobytes()
        for pair in ([reference, other], [other, reference], [other, other])
    }
    assert own.picture.tobytes() not in drawn
    # Only an IP-Adapter, which attends to the tokens of all references at once, knows no order.
    assert len(drawn) >= 2


@pytest.mark.parametrize("size", [(333, 517), (256, 2048)])
def test_any_size_is_met_exactly(draw, short, size):
    result = draw(short(width=size[0], height=size[1], steps=1))
    assert result.picture.size == size
    assert result.picture.mode == "RGB"
    assert numpy.asarray(result.picture).std() > 1


@pytest.mark.parametrize("size", [(64, 700), (3, 2)])
def test_a_reference_of_any_shape_will_do(draw, short, reference, size):
    assert draw(short(references=[reference.resize(size)], steps=1)).picture.size == (256, 256)


def test_every_step_is_told(draw, short):
    seen = []
    draw(short(steps=4), lambda *step: seen.append(step) or True)
    assert [step[:3] for step in seen] == [(0, number, 4) for number in (1, 2, 3, 4)]
    previews = [step for _, step, _, preview in seen if preview is not None]
    assert previews == [3]
    assert max(seen[2][3].size) <= 256


def test_a_cancelled_drawing_stops_at_once_and_the_next_one_is_sound(subject, draw, own, short):
    seen, runs = [], []
    handle = subject.network.register_forward_hook(lambda *call: runs.append(len(seen)))
    try:
        assert draw(short(steps=4), lambda *step: seen.append(step[1]) or False) is None
    finally:
        handle.remove()
    assert seen == [1]
    assert set(runs) == {0}, "it ran on after the step at which nobody wanted the picture any more"
    assert draw(short()).picture.tobytes() == own.picture.tobytes()


def test_of_several_requests_each_is_drawn_as_alone(subject, draw, request_varied):
    requests = [request_varied(number, steps=2) for number in range(2)]
    together = subject.engine.draw(requests, go_on)
    alone = [draw(request) for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert measure_psnr(one.picture, other.picture) >= 45
        assert one.warnings == other.warnings
    assert measure_psnr(alone[0].picture, alone[1].picture) < 45


def test_cancelling_one_of_several_leaves_the_other(subject, draw, request_varied):
    requests = [request_varied(number, steps=2) for number in range(2)]
    seen = []

    def cancel_first(index, step, steps, preview):
        seen.append((index, step))
        return index == 1

    cancelled, other = subject.engine.draw(requests, cancel_first)
    assert cancelled is None
    assert measure_psnr(other.picture, draw(requests[1]).picture) >= 45
    assert [step for index, step in seen if index == 0] == [1]
    assert [step for index, step in seen if index == 1] == [1, 2]


def test_running_out_of_memory_is_explained_and_survived(subject, draw, own, short):
    """The network asks for more memory than any machine has, as a huge canvas would."""
    with failing(subject, lambda: torch.empty(2**50)), pytest.raises(EngineError) as raised:
        draw(short())
    assert raised.value.code == "out_of_memory"
    assert draw(short()).picture.tobytes() == own.picture.tobytes()


def test_another_failure_is_not_taken_for_one_of_memory(subject, draw, short):
    with failing(subject, lambda: torch.ones(2) @ torch.ones(3)), pytest.raises(RuntimeError, match="size"):
        draw(short())


@pytest.mark.parametrize("name", ["qwen_edit", "flux2_base"])
def test_it_draws_with_the_numbers_of_a_gpu(request, short, name):
    engine = copy.deepcopy(request.getfixturevalue(name))
    engine._pipeline.to(torch.bfloat16)
    # What is kept was computed with other numbers.
    engine._prompts.clear()
    engine._pictures.clear()
    shown = []
    (result,) = engine.draw([short(steps=4)], lambda *step: shown.append(step[3]) or True)
    assert numpy.asarray(result.picture).std() > 1
    assert numpy.asarray(shown[2]).std() > 1


@contextmanager
def failing(subject: Subject, fail: Callable[[], object]) -> Iterator[None]:
    """Whatever the network is run for fails."""
    handle = subject.network.register_forward_pre_hook(lambda *call: fail())
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture(
    params=[
        ("sdxl_settings", "sdxl_model", "unet"),
        ("sdxl_settings", "sdxl_model", "text_encoder"),
        ("sdxl_settings", "sdxl_model", "text_encoder_2"),
        ("sdxl_settings", "sdxl_controlnet", "."),
        ("sdxl_settings", "sdxl_vae", "."),
        ("sdxl_settings", "sdxl_ip_adapter", "models/image_encoder"),
        ("qwen_edit_settings", "qwen_edit_model", "transformer"),
        ("qwen_edit_settings", "qwen_edit_model", "text_encoder"),
        ("flux2_base_settings", "flux2_klein_model", "transformer"),
        ("flux2_base_settings", "flux2_klein_model", "text_encoder"),
    ],
    ids=lambda given: "-".join(given[1:]),
)
def broken(request, tmp_path) -> tuple[Settings, str, Path]:
    """Settings of a copy of a checkpoint, which of them names it, and a file of its weights."""
    settings, setting, part = request.param
    settings = request.getfixturevalue(settings)
    copy = tmp_path / "model"
    shutil.copytree(getattr(settings, setting), copy)
    (weights,) = (copy / part).glob("*.safetensors")
    return settings.model_copy(update={setting: str(copy)}), setting, weights


@pytest.mark.parametrize("how", ["missing", "cut short", "incomplete"])
def test_bad_weights_are_a_clear_error(broken, how):
    settings, setting, weights = broken
    if how == "missing":
        weights.unlink()
    elif how == "cut short":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        tensors = load_file(weights)
        del tensors[min(name for name in tensors if "block" in name or "layers" in name)]
        save_file(tensors, weights, metadata={"format": "pt"})
    assert_setting_is_named(settings, setting)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ("sdxl_settings", "sdxl_model"),
        ("qwen_edit_settings", "qwen_edit_model"),
        ("qwen_edit_settings", "qwen_edit_lora"),
        ("flux2_base_settings", "flux2_klein_model"),
    ],
)
@pytest.mark.parametrize("place", ["nobody/has-this-model", "/nowhere/at/all"])
def test_weights_that_are_not_on_this_machine_are_a_clear_error(
    request, monkeypatch, settings, setting, place
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    settings = request.getfixturevalue(settings).model_copy(update={setting: place})
    assert_setting_is_named(settings, setting)


def assert_setting_is_named(settings: Settings, setting: str) -> None:
    with pytest.raises(EngineError) as raised:
        load_engine(settings)
    assert raised.value.code == "engine_load_failed"
    assert f"UNDERSTUDY_{setting.upper()}" in raised.value.message
    assert getattr(settings, setting) not in raised.value.message
