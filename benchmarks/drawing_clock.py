"""Drawings that are asked for and timed: whole, in their parts, and against what the device could do."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from service import CHARACTER
from torch.utils.flop_counter import FlopCounterMode

from understudy.engines import DrawRequest, EngineError
from understudy.pictures import encode_picture

GUIDANCE = 3.0
PARTS_OF = {
    "text_encoder": "text",
    "text_encoder_2": "text",
    "image_encoder": "reference",
    "controlnet": "denoising",
    "unet": "denoising",
    "transformer": "denoising",
}
"""What a pipeline's networks do; the autoencoder is timed by its methods."""

Draw = Callable[[Sequence[DrawRequest]], list[Image.Image]]


@dataclass(frozen=True)
class Scale:
    """How large everything is: true, or tiny."""

    tiny: bool
    device: str
    out: Path

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.tiny else torch.bfloat16

    @property
    def side(self) -> int:
        return 64 if self.tiny else 1024

    @property
    def steps(self) -> int:
        return 2 if self.tiny else 10

    @property
    def rounds(self) -> int:
        return 1 if self.tiny else 7

    @property
    def batches(self) -> tuple[int, ...]:
        return (1, 2) if self.tiny else (1, 2, 4, 8)

    @cached_property
    def flops_per_second(self) -> float:
        """The speed of a large matrix product of the numbers that are drawn with."""
        return measure_peak(self)


@dataclass(frozen=True)
class Timed:
    """One drawing: how long it took, the most GiB that it had allocated at a time beyond what was there
    before, and how many of its pictures have one colour alone."""

    seconds: float = 0.0
    work_gib: float = 0.0
    blank_pictures: int = 0
    failed: str | None = None


def allocated_gib(scale: Scale) -> float:
    """What is allocated on the device."""
    return 0.0 if scale.tiny else torch.cuda.memory_allocated() / 2**30


def wait_for_device(scale: Scale) -> None:
    """Return when the device has done all it was told."""
    if not scale.tiny:
        torch.cuda.synchronize()


def release_memory() -> None:
    """Give back what nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


_numbers = itertools.count()


def make_requests(scale: Scale, count: int, steps: int | None = None) -> list[DrawRequest]:
    """Requests that no one has asked before: each has a prompt, a reference and a pose of its own."""
    return [make_request(scale, next(_numbers), steps or scale.steps) for _ in range(count)]


def make_request(scale: Scale, number: int, steps: int) -> DrawRequest:
    """The request of a number: joints anywhere are as good as a pose."""
    chance = numpy.random.default_rng(number)
    character = open_character(scale.side)
    pixels = numpy.roll(numpy.asarray(character), int(chance.integers(1, scale.side)), axis=1)
    joints = numpy.concatenate([chance.uniform(0.2, 0.8, (18, 2)) * scale.side, numpy.ones((18, 1))], axis=1)
    return DrawRequest(
        prompt=f"person number {number}, red plaid shirt, blue jeans, in a park on a sunny day",
        references=[Image.fromarray(pixels)],
        width=scale.side,
        height=scale.side,
        seed=number,
        guidance_scale=GUIDANCE,
        steps=steps,
        skeleton=joints,
    )


def open_character(side: int) -> Image.Image:
    """The character of the examples as a square."""
    with Image.open(CHARACTER) as file:
        return file.convert("RGB").resize((side, side))


def compare(scale: Scale, stock: Draw, ours: Draw, count: int, rounds: int) -> dict[str, Any]:
    """Draw `count` pictures by each in turn: what `time_drawings` tells of both."""
    measured: dict[str, list[Timed]] = {"stock": [], "ours": []}
    for _ in range(rounds + 1):
        for name, draw in (("stock", stock), ("ours", ours)):
            measured[name].append(time_drawing(scale, draw, make_requests(scale, count)))
    return {name: summarize(some) for name, some in measured.items()}


def time_drawings(scale: Scale, draw: Draw, rounds: int, steps: int) -> dict[str, Any]:
    """Draw one picture after another: seconds of each, memory beyond the weights, and how many had no
    content."""
    return summarize([time_drawing(scale, draw, make_requests(scale, 1, steps)) for _ in range(rounds + 1)])


def summarize(measured: Sequence[Timed]) -> dict[str, Any]:
    """What is told of some drawings; the first was there but to have everything ready."""
    failed = next((timed.failed for timed in measured if timed.failed), None)
    if failed is not None:
        return {"failed": failed}
    return {
        "seconds": [timed.seconds for timed in measured[1:]],
        "work_gib": max(timed.work_gib for timed in measured),
        "blank_pictures": sum(timed.blank_pictures for timed in measured),
    }


def time_drawing(scale: Scale, draw: Draw, requests: Sequence[DrawRequest]) -> Timed:
    """One drawing; what the device cannot do is told, not raised."""
    before = allocated_gib(scale)
    if not scale.tiny:
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds, pictures = time_call(scale, partial(draw, requests))
    except (RuntimeError, EngineError) as error:
        failed = type(error).__name__
    else:
        peak = before if scale.tiny else torch.cuda.max_memory_allocated() / 2**30
        blank = sum(numpy.asarray(picture).std() == 0 for picture in pictures)
        return Timed(seconds, peak - before, int(blank))
    # Only now, for the error holds on to all that was in memory.
    release_memory()
    return Timed(failed=failed)


def time_call(scale: Scale, call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call until the device has done all of it, and what it gives."""
    wait_for_device(scale)
    started = time.perf_counter()
    result = call()
    wait_for_device(scale)
    return time.perf_counter() - started, result


def time_parts(scale: Scale, pipeline: Any, draw: Draw, steps: int | None = None) -> dict[str, float]:
    """Seconds of each part of a drawing, medians of some drawings beside those that are timed whole."""
    rounds: list[dict[str, float]] = []
    for _ in range(max(1, scale.rounds // 2)):
        with watch_parts(scale, pipeline) as spans:
            whole, pictures = time_call(scale, partial(draw, make_requests(scale, 1, steps)))
        parts = {name: sum(measure_span(*span) for span in some) for name, some in spans.items() if some}
        parts["the rest"] = whole - sum(parts.values())
        parts["PNG"], _ = time_call(scale, partial(encode_picture, pictures[0], "png", {"engine": "sdxl"}))
        rounds.append(parts)
    return {name: statistics.median(parts[name] for parts in rounds) for name in rounds[0]}


@contextmanager
def watch_parts(scale: Scale, pipeline: Any) -> Iterator[dict[str, list[tuple[Any, Any]]]]:
    """Marks of when each network of a pipeline begins and ends, on the device's own clock."""
    spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    handles = []
    for name, part in PARTS_OF.items():
        network = getattr(pipeline, name, None)
        if network is not None:
            begun: list[Any] = []
            handles += [
                network.register_forward_pre_hook(lambda *given, begun=begun: begun.append(mark_time(scale))),
                network.register_forward_hook(
                    lambda *given, begun=begun, part=part: spans[part].append((begun.pop(), mark_time(scale)))
                ),
            ]
    vae = pipeline.vae
    for method, part in (("encode", "encoding pictures"), ("decode", "decoding")):
        setattr(vae, method, partial(_mark_call, scale, spans[part], getattr(vae, method)))
    try:
        yield spans
        wait_for_device(scale)
    finally:
        for handle in handles:
            handle.remove()
        del vae.encode, vae.decode


def _mark_call(
    scale: Scale, spans: list[tuple[Any, Any]], method: Callable[..., Any], *given: Any, **named: Any
) -> Any:
    begun = mark_time(scale)
    result = method(*given, **named)
    spans.append((begun, mark_time(scale)))
    return result


def mark_time(scale: Scale) -> Any:
    """Now, in the device's stream of work."""
    if scale.tiny:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def measure_span(begun: Any, ended: Any) -> float:
    """Seconds between two marks, when the device has passed them."""
    return ended - begun if isinstance(begun, float) else begun.elapsed_time(ended) / 1000


def count_flops(scale: Scale, draw: Callable[[int], Draw], steps: int) -> float:
    """Floating point operations of a drawing of one picture: those of two steps, and those that each further
    one adds. `draw` is how it is drawn in so many steps."""
    few, more = (count_operations(draw(count), make_requests(scale, 1, count)) for count in (2, 3))
    return few + (steps - 2) * (more - few)


def count_operations(draw: Draw, requests: Sequence[DrawRequest]) -> int:
    """Floating point operations of one plain call, two for each multiplication with an addition."""
    with FlopCounterMode(display=False) as counter:
        draw(requests)
    return counter.get_total_flops()


def measure_peak(scale: Scale) -> float:
    """Floating point operations a second of a large matrix product of random numbers, the median of some."""
    side = 256 if scale.tiny else 8192
    first, second = (torch.randn(side, side, device=scale.device, dtype=scale.dtype) for _ in range(2))
    for _ in range(3):
        first @ second
    seconds = [time_call(scale, lambda: first @ second)[0] for _ in range(20)]
    return 2 * side**3 / statistics.median(seconds)
