"""Measures the engines for a GPU beside the plain diffusers call, at their true sizes with random weights.

    python benchmarks/gpu.py                       every part; some take minutes
    python benchmarks/gpu.py --part sdxl           one part, well within ten minutes
    python benchmarks/gpu.py --tiny                tiny networks on a CPU: does it still run?

Parts: sdxl (one picture, its parts and the physical limit), batches (SDXL, several pictures together), api
(SDXL through the service), klein, qwen. What they find goes into `gpu.json`, and with every run all of it
into `gpu.md`, in the folder of --out.

SDXL draws 1024 x 1024 pixels in 10 steps at guidance 3 with a reference and a pose; prompt, reference and
pose are other ones for each picture, so that no cache helps. The plain call is what diffusers' pages show:
bfloat16, torch's attention, nothing compiled. Both draw in turn, in one process; seconds are medians, from
the request to the picture in the machine's memory. The physical limit is the drawing's floating point
operations (torch.utils.flop_counter, on the plain call) over the speed of a large bfloat16 matrix product.
Our settings are those of the environment: UNDERSTUDY_COMPILE=off tells what compiling brings.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

# It is read when the library is loaded.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionXLControlNetPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from drawing_clock import (
    GUIDANCE,
    Scale,
    allocated_gib,
    compare,
    count_flops,
    open_character,
    release_memory,
    time_call,
    time_drawings,
    time_parts,
)
from gpu_tables import describe
from load import build_request, send_load
from PIL import Image
from random_weights import WEIGHTS, make_klein, make_qwen, write_sdxl
from service import DISK, MODEL, run_service
from true_sizes import KLEIN, QWEN, SDXL, TINY_KLEIN, TINY_QWEN, TINY_SDXL

from understudy.engines import DrawRequest, Engine
from understudy.engines.checkpoint import find_checkpoint
from understudy.engines.editing import EditEngine
from understudy.engines.fitting import compile_engine, fit_pipeline
from understudy.engines.flux2_klein import PROFILE as KLEIN_PROFILE
from understudy.engines.flux2_klein import Flux2KleinEngine
from understudy.engines.memory_profile import FULL
from understudy.engines.presets import choose_flux2_klein, choose_qwen_edit
from understudy.engines.qwen_edit import PROFILE as QWEN_PROFILE
from understudy.engines.qwen_edit import QwenEditEngine
from understudy.engines.sdxl import load_sdxl
from understudy.pose.drawing import draw_skeleton
from understudy.settings import Settings


def main() -> None:
    """Measure the parts that are asked for and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="one of them; all without it")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on a CPU")
    parser.add_argument("--out", type=Path, default=DISK / "gpu", help="the folder of results and weights")
    arguments = parser.parse_args()
    if not (arguments.tiny or torch.cuda.is_available()):
        parser.error("there is no GPU; --tiny runs on a CPU")
    print(run(arguments.part or list(PARTS), arguments.tiny, arguments.out))


def run(parts: Sequence[str], tiny: bool, out: Path) -> str:
    """Measure parts, add them to the results in `out`, and return those as Markdown."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    scale = Scale(tiny, "cpu" if tiny else "cuda", out)
    # The service that the api part starts has a data folder of its own, and is to find what was compiled.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((out / "compiled").absolute()))
    results = out / "gpu.json"
    found = json.loads(results.read_text()) if results.exists() else {}
    for part in parts:
        started = time.perf_counter()
        found[part] = PARTS[part](scale)
        found[part]["measuring_seconds"] = round(time.perf_counter() - started, 1)
        found["machine"] = describe_machine(scale)
        # After each, for a later one may be cut off.
        results.write_text(json.dumps(found, indent=2))
        release_memory()
    text = "\n".join(describe(found))
    (out / "gpu.md").write_text(text)
    return text


def measure_sdxl(scale: Scale) -> dict[str, Any]:
    """One picture at a time: ours and the plain call in turn, then ours in parts."""
    stock, stock_memory = load_stock_sdxl(scale)
    engine, load_seconds, engine_memory = load_ours_sdxl(scale)
    draw_stock = partial(draw_with_stock, stock, scale)
    draw_ours = partial(draw_with_engine, engine)
    found = compare(scale, draw_stock, draw_ours, 1, scale.rounds)
    flops = count_flops(scale, lambda steps: draw_stock, scale.steps)
    found |= {
        "load_seconds": load_seconds,
        "weights_gib": {"stock": stock_memory, "ours": engine_memory},
        "parts": {
            "stock": time_parts(scale, stock, draw_stock),
            "ours": time_parts(scale, engine._posed, draw_ours),
        },
        "tflop": flops / 1e12,
        "limit_seconds": flops / scale.flops_per_second,
    }
    return found


def measure_batches(scale: Scale) -> dict[str, Any]:
    """Several pictures drawn together."""
    stock, _ = load_stock_sdxl(scale)
    engine, _, _ = load_ours_sdxl(scale)
    draw_stock = partial(draw_with_stock, stock, scale)
    flops = count_flops(scale, lambda steps: draw_stock, scale.steps)
    sizes = {}
    for count in scale.batches:
        rounds = max(1, scale.rounds // 2)
        found = compare(scale, draw_stock, partial(draw_with_engine, engine), count, rounds)
        sizes[str(count)] = found | {"limit_seconds": count * flops / scale.flops_per_second}
    return {"sizes": sizes, "tflop": flops / 1e12}


def measure_api(scale: Scale) -> dict[str, Any]:
    """Pictures a second through the service, each client waiting for its own."""
    settings: dict[str, Any] = {"credits": "off"}
    engine, side = "null", 256
    if not scale.tiny:
        engine, side = "sdxl", 1024
        settings |= sdxl_settings(scale) | {"device": scale.device}
    clients = {1: 3, 4: 4} if scale.tiny else {1: 8, 4: 24, 16: 64}
    references = make_references(side)
    found: dict[str, Any] = {"engine": engine, "clients": {}}
    started = time.perf_counter()
    with run_service(engine, settings) as service:

        def ask(count: int, together: int) -> Any:
            requests = [
                build_request(
                    "POST",
                    f"{service.url}/v1/{MODEL}",
                    service.headers,
                    {
                        "prompt": f"a person, number {time.monotonic_ns()}",
                        "ip_image": next(references),
                        "pose": "wave",
                        "width": side,
                        "height": side,
                    },
                )
                for _ in range(count)
            ]
            return send_load(service.url, requests, together)

        ask(1, 1)
        found["start_seconds"] = time.perf_counter() - started
        for together, count in clients.items():
            ask(together, together)
            load = ask(count, together)
            found["clients"][str(together)] = {
                "pictures_per_second": load.per_second,
                "p50_seconds": statistics.median(load.latencies),
                "most_seconds": max(load.latencies),
            }
    return found


def measure_klein(scale: Scale) -> dict[str, Any]:
    """FLUX.2-klein, distilled, in four steps."""
    sizes = TINY_KLEIN if scale.tiny else KLEIN
    preset = choose_flux2_klein(Settings(flux2_klein_preset="distilled"))
    return measure_editor(scale, partial(make_klein, sizes), Flux2KleinEngine, preset, KLEIN_PROFILE, 4)


def measure_qwen(scale: Scale) -> dict[str, Any]:
    """Qwen-Image-Edit, where it fits whole."""
    needed = 62e9
    if not scale.tiny and torch.cuda.mem_get_info()[0] < needed:
        return {"left_out": f"it takes {needed / 1e9:.0f} GB of free GPU memory"}
    sizes = TINY_QWEN if scale.tiny else QWEN
    preset = choose_qwen_edit(Settings())
    # The pipeline brings every picture to a size of its own, too large for a CPU.
    small = {"VAE_IMAGE_SIZE": scale.side**2, "CONDITION_IMAGE_SIZE": 112**2} if scale.tiny else {}
    with ExitStack() as stack:
        for name, pixels in small.items():
            stack.enter_context(patch.object(pipeline_qwenimage_edit_plus, name, pixels))
        return measure_editor(
            scale, partial(make_qwen, sizes), QwenEditEngine, preset, QWEN_PROFILE, scale.steps
        )


def measure_editor(
    scale: Scale,
    make: Callable[..., Any],
    make_engine: Callable[..., EditEngine],
    preset: Any,
    profile: Any,
    steps: int,
) -> dict[str, Any]:
    """One picture at a time of an engine that edits pictures: first the plain call, then ours with the
    same networks, for two of them may not fit."""
    pipeline = make(scale.device, scale.dtype)
    pipeline.set_progress_bar_config(disable=True)
    profile = replace(
        profile, canvas_pixels=scale.side**2, pose_pixels=min(profile.pose_pixels, scale.side**2)
    )

    def draw_stock(steps: int, requests: Sequence[DrawRequest]) -> list[Image.Image]:
        (request,) = requests
        guided = {"negative_prompt": " ", "true_cfg_scale": GUIDANCE} if preset.guided else {}
        return pipeline(
            prompt=request.prompt,
            image=[*request.references, draw_skeleton(request.skeleton, scale.side, scale.side)],
            width=scale.side,
            height=scale.side,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(request.seed),
            **guided,
        ).images

    found: dict[str, Any] = {"weights_gib": {"ours": allocated_gib(scale)}, "steps": steps}
    rounds = max(1, scale.rounds // 2)
    stock = time_drawings(scale, partial(draw_stock, steps), rounds, steps)
    flops = count_flops(scale, lambda count: partial(draw_stock, count), steps)
    parts = {"stock": time_parts(scale, pipeline, partial(draw_stock, steps), steps)}
    fit_pipeline(pipeline, scale.device, FULL)
    engine = make_engine(pipeline, preset, profile, scale.device)
    started = time.perf_counter()
    compile_engine(engine, pipeline, Settings(data_dir=scale.out / "data"), FULL)
    found["compile_seconds"] = time.perf_counter() - started
    draw_ours = partial(draw_with_engine, engine)
    ours = time_drawings(scale, draw_ours, rounds, steps)
    parts["ours"] = time_parts(scale, pipeline, draw_ours, steps)
    return found | {
        "stock": stock,
        "ours": ours,
        "parts": parts,
        "tflop": flops / 1e12,
        "limit_seconds": flops / scale.flops_per_second,
    }


PARTS: dict[str, Callable[[Scale], dict[str, Any]]] = {
    "sdxl": measure_sdxl,
    "batches": measure_batches,
    "api": measure_api,
    "klein": measure_klein,
    "qwen": measure_qwen,
}


def sdxl_settings(scale: Scale) -> dict[str, Any]:
    """The settings of random weights of SDXL, which are made once."""
    made = write_sdxl(
        scale.out / ("tiny-sdxl" if scale.tiny else "sdxl"),
        TINY_SDXL if scale.tiny else SDXL,
        scale.device,
        torch.float32 if scale.tiny else torch.float16,
    )
    release_memory()
    # Without it nothing looks for faces.
    return made | {"sdxl_ip_adapter_face_weights": ""}


def load_stock_sdxl(scale: Scale) -> tuple[StableDiffusionXLControlNetPipeline, float]:
    """The pipeline as diffusers' pages load it, and the GiB that its weights take."""
    made = sdxl_settings(scale)
    before = allocated_gib(scale)
    pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(
        made["sdxl_model"],
        controlnet=ControlNetModel.from_pretrained(made["sdxl_controlnet"], dtype=scale.dtype),
        vae=AutoencoderKL.from_pretrained(made["sdxl_vae"], dtype=scale.dtype),
        dtype=scale.dtype,
        add_watermarker=False,
    )
    pipeline.load_ip_adapter(
        made["sdxl_ip_adapter"],
        subfolder="sdxl_models",
        weight_name=WEIGHTS,
        image_encoder_folder="models/image_encoder",
    )
    pipeline.set_ip_adapter_scale(0.7)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(scale.device)
    return pipeline, allocated_gib(scale) - before


def load_ours_sdxl(scale: Scale) -> tuple[Engine, float, float]:
    """The engine as the service loads it, the seconds that took, and the GiB that its weights take."""
    settings = Settings(
        engine="sdxl", device=scale.device, data_dir=scale.out / "data", **sdxl_settings(scale)
    )
    checkpoint = find_checkpoint(settings)
    if scale.tiny:
        checkpoint = replace(checkpoint, profile=replace(checkpoint.profile, canvas_pixels=scale.side**2))
    before = allocated_gib(scale)
    seconds, engine = time_call(scale, partial(load_sdxl, settings, checkpoint))
    return engine, seconds, allocated_gib(scale) - before


def draw_with_engine(engine: Engine, requests: Sequence[DrawRequest]) -> list[Image.Image]:
    """The pictures as the worker has them drawn."""
    return [result.picture for result in engine.draw(requests, lambda *step: True)]


def draw_with_stock(
    pipeline: StableDiffusionXLControlNetPipeline, scale: Scale, requests: Sequence[DrawRequest]
) -> list[Image.Image]:
    """The pictures of one plain call; all of them have the first one's reference, for it takes but one."""
    # Our engines choose repeatable convolutions for the whole process; the plain call does not.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True):
        return pipeline(
            prompt=[request.prompt for request in requests],
            image=[draw_skeleton(request.skeleton, scale.side, scale.side) for request in requests],
            ip_adapter_image=requests[0].references[0],
            width=scale.side,
            height=scale.side,
            num_inference_steps=requests[0].steps,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        ).images


def make_references(side: int) -> Iterator[str]:
    """The character in base64, without end, no two the same in their pixels."""
    character = open_character(side)
    number = 0
    while True:
        number += 1
        character.putpixel((0, 0), (number >> 16 & 255, number >> 8 & 255, number & 255))
        data = io.BytesIO()
        character.save(data, "PNG")
        yield base64.b64encode(data.getvalue()).decode()


def describe_machine(scale: Scale) -> dict[str, Any]:
    """What was measured on, and with."""
    import diffusers

    name = "a CPU, tiny networks" if scale.tiny else torch.cuda.get_device_name()
    return {
        "device": name,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "matrix_product_tflops": scale.flops_per_second / 1e12,
    }


if __name__ == "__main__":
    main()
