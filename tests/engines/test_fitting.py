"""A pipeline fitted to its device draws what it drew before, wherever its weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from PIL import Image

from understudy.engines import DrawRequest, Engine, EngineError, flux2_klein, qwen_edit, sdxl
from understudy.engines.checkpoint import find_checkpoint, load_pipeline
from understudy.engines.fitting import (
    STORED,
    compile_engine,
    fit_pipeline,
    make_blank_references,
    measure_memory,
    warm_up,
)
from understudy.engines.flux2_klein import load_flux2_klein
from understudy.engines.memory_profile import FULL, MemoryProfile
from understudy.settings import Settings

from .conftest import SMALL, measure_psnr

ENCODERS_WAIT = MemoryProfile(name="offload", waiting=("encoders",))
ALL_WAIT = MemoryProfile(name="offload", waiting=("encoders", "denoiser"))
QUANTISED = MemoryProfile(name="quantised", waiting=("encoders",))


def draw(engine: Engine, request: DrawRequest) -> Image.Image:
    (result,) = engine.draw([request], lambda *step: True)
    return result.picture


@pytest.fixture
def short(request_of) -> Callable[..., DrawRequest]:
    """Make a request that is drawn in two steps."""
    return lambda **changes: request_of(**({"steps": 2} | changes))


@pytest.fixture(params=["sdxl", "qwen_edit", "flux2_base"])
def fit(request, monkeypatch) -> Callable[[MemoryProfile], tuple[Engine, torch.nn.Module]]:
    """Load an engine with a memory profile; the engine, and the network that runs in each step."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    request.getfixturevalue("small_pictures")

    # A CPU has nothing to choose.
    def choose(memory: MemoryProfile) -> None:
        for module in (sdxl, qwen_edit, flux2_klein):
            monkeypatch.setattr(module, "measure_memory", lambda *asked: memory)

    def load(memory: MemoryProfile) -> tuple[Engine, torch.nn.Module]:
        choose(memory)
        if request.param == "sdxl":
            checkpoint = find_checkpoint(settings)
            profile = replace(checkpoint.profile, canvas_pixels=128 * 128)
            engine = sdxl.load_sdxl(settings, replace(checkpoint, profile=profile))
            return engine, engine._posed.unet
        load_editor = qwen_edit.load_qwen_edit if request.param == "qwen_edit" else load_flux2_klein
        engine = load_editor(settings, SMALL)
        return engine, engine._pipeline.transformer

    return load


def test_wherever_its_weights_wait_it_draws_the_same_picture(fit, short):
    whole, _ = fit(FULL)
    plain = draw(whole, short())
    for memory in (ENCODERS_WAIT, ALL_WAIT):
        engine, _ = fit(memory)
        assert measure_psnr(draw(engine, short()), plain) >= 45
        # A second drawing finds the weights where the first one left them.
        assert measure_psnr(draw(engine, short(seed=8)), plain) < 45


def test_quantised_weights_take_half_and_draw_nearly_the_same(fit, short):
    engine, network = fit(QUANTISED)
    whole, whole_network = fit(FULL)
    stored = {parameter.dtype for parameter in network.parameters()}
    assert STORED in stored
    assert count_bytes(network) < 0.6 * count_bytes(whole_network)
    assert network.dtype == torch.float32
    assert measure_psnr(draw(engine, short()), draw(whole, short())) >= 30


def test_a_plain_adapter_reads_references_for_a_quantised_denoiser(sdxl_settings):
    pipeline = load_pipeline(find_checkpoint(sdxl_settings), "cpu")
    adapter = ImageProjection(8, 8, 2)
    pipeline.unet.encoder_hid_proj = MultiIPAdapterImageProjection([adapter])
    plain = adapter(torch.ones(1, 8))
    fit_pipeline(pipeline, "cpu", QUANTISED)
    assert pipeline.unet.conv_in.weight.dtype == STORED
    assert torch.equal(adapter(torch.ones(1, 8)), plain)


def count_bytes(network: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())


def test_a_small_gpu_decodes_in_tiles(sdxl_settings):
    pipeline = sdxl.load_sdxl(sdxl_settings)._posed
    sizes = []
    pipeline.vae.decoder.register_forward_pre_hook(lambda decoder, given: sizes.append(given[0].shape[-2:]))
    latents = torch.zeros(1, 4, 128, 128)
    with torch.no_grad():
        pipeline.vae.decode(latents)
        fit_pipeline(pipeline, "cpu", replace(ENCODERS_WAIT, tiled=True))
        picture = pipeline.vae.decode(latents).sample
    assert sizes[0] == (128, 128)
    assert len(sizes) > 4
    assert max(max(size) for size in sizes[1:]) == 64
    assert picture.shape == (1, 3, 1024, 1024)


def test_on_a_cpu_there_is_nothing_to_choose():
    assert measure_memory(Settings(memory_profile="quantised"), "sdxl", "cpu") is FULL


def test_what_a_gpu_has_free_decides_and_too_little_is_told(monkeypatch):
    free_bytes = 80 * 10**9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 80 * 10**9))
    assert measure_memory(Settings(), "qwen-edit", "cuda:1").name == "full"
    assert measure_memory(Settings(memory_profile="offload"), "qwen-edit", "cuda:1").name == "offload"
    free_bytes = 24 * 10**9
    assert measure_memory(Settings(), "qwen-edit", "cuda").name == "quantised"
    free_bytes = 2 * 10**9
    with pytest.raises(EngineError, match=r"needs 4\.6 GB .* 2\.0 GB are free"):
        measure_memory(Settings(), "qwen-edit", "cuda")


@pytest.mark.parametrize(
    ("wanted", "memory"), [("off", FULL), ("auto", FULL), ("on", QUANTISED), ("on", ENCODERS_WAIT)]
)
def test_nothing_is_compiled_on_a_cpu_or_where_weights_come_and_go(flux2_base, wanted, memory):
    compile_engine(flux2_base, flux2_base._pipeline, Settings(compile=wanted), memory)
    blocks = flux2_base._pipeline.transformer.modules()
    assert all(block._compiled_call_impl is None for block in blocks)


class Recorder:
    """Draws nothing and keeps what it is asked for."""

    batch_size = 4

    def __init__(self) -> None:
        self.batches: list[list[DrawRequest]] = []

    def draw(self, requests, on_step) -> None:
        self.batches.append(list(requests))


def test_every_kind_of_request_is_warmed_up(make_sdxl):
    sdxl, engine = make_sdxl(sees=False), Recorder()
    warm_up(engine, sdxl.make_references())
    shapes = {
        (1 + len(more), len(one.references), one.guidance_scale > 1, sdxl._conditions.count_faces(one) > 0)
        for one, *more in engine.batches
    }
    kinds = [(1, 1, True), (1, 1, False), (1, 2, True), (1, 2, False), (4, 1, True)]
    assert shapes == {(*kind, face) for kind in kinds for face in (False, True)}
    assert all(request.width != request.height for batch in engine.batches for request in batch)


def test_without_an_adapter_for_faces_none_is_warmed_up(make_sdxl):
    engine = make_sdxl(sdxl_ip_adapter_face_weights="")
    assert len(engine.make_references()) == len(make_blank_references()) == 1


@pytest.fixture(params=["qwen_edit", "flux2_base"])
def editor(request) -> Engine:
    engine = request.getfixturevalue(request.param)
    engine._prompts.clear()
    engine._pictures.clear()
    return engine


def test_what_was_encoded_is_kept_and_changes_no_byte(editor, short, reference):
    encoded = {"prompts": 0, "pictures": 0}

    def count(what: str) -> None:
        encoded[what] += 1

    vae, text_encoder = editor._pipeline.vae, editor._pipeline.text_encoder
    handles = [
        vae.encoder.register_forward_pre_hook(lambda *call: count("pictures")),
        text_encoder.register_forward_pre_hook(lambda *call: count("prompts")),
    ]
    try:
        first = draw(editor, short())
        once = dict(encoded)
        assert min(once.values()) > 0
        assert draw(editor, short()).tobytes() == first.tobytes()
        assert draw(editor, short(seed=8)).tobytes() != first.tobytes()
        assert encoded == once
        other = draw(editor, short(prompt="an old woman", references=[reference.transpose(0)]))
        assert all(encoded[what] > once[what] for what in once)
        assert other.tobytes() != first.tobytes()
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.slow
def test_compiled_blocks_draw_the_same_picture_and_are_kept_on_disk(
    qwen_edit_settings, small_pictures, short, tmp_path, monkeypatch
):
    from torch._dynamo.utils import counters

    # Set first, so that what the engine sets is taken back.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    settings = qwen_edit_settings.model_copy(update={"compile": "on", "data_dir": tmp_path})
    engine = qwen_edit.load_qwen_edit(qwen_edit_settings, SMALL)
    plain = draw(engine, short())
    try:
        compile_engine(engine, engine._pipeline, settings, FULL)
        assert measure_psnr(draw(engine, short()), plain) >= 45
        assert counters["stats"]["unique_graphs"] >= 1
        assert not counters["graph_break"]
        programs = counters["stats"]["unique_graphs"]
        for change in (
            {"width": 300},
            {"prompt": "an old woman in a long green dress"},
            {"guidance_scale": 1.0},
        ):
            draw(engine, short(**change))
        assert counters["stats"]["unique_graphs"] == programs, "other arguments made it compile again"
        assert any(Path(tmp_path, "compiled").iterdir())
    finally:
        torch._dynamo.reset()
