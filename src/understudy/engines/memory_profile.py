"""How an engine's weights are laid out in the memory that a GPU has free, known before they are loaded.

What is needed is worked out, not measured: parameters x bytes of each (16 bits, or 8 where they are
quantised) for the weights that stay on the GPU, and what a drawing works in besides. For a picture of
one megapixel the latter is 4 GiB while the autoencoder decodes (some eight tensors of 256 channels live
at the same time), or in tiles what a step of the denoiser takes. Imports no framework.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from . import EngineError

GIB = 2**30
DECODE_BYTES = 4 * GIB
"""What the decoding of a picture of one megapixel works in; in tiles it is less than a step."""

ProfileName = Literal["full", "quantised", "offload"]


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The size of an engine's networks, in parameters.

    `denoiser` is all that runs in every step, `encoders` is what reads prompts and pictures before the
    first. `largest_layer` is the largest single layer of either, of which two are on the GPU at a time
    when weights come to it layer by layer. `step_bytes` is what a step works in, two references included.
    """

    denoiser: int
    encoders: int
    autoencoder: int
    largest_layer: int
    step_bytes: int


FOOTPRINTS = {
    # UNet 2,567M, two IP-Adapters Plus of 424M each (the second is for faces) and ControlNet 1,251M; both
    # text encoders 818M, image encoder 632M.
    "sdxl": Footprint(
        denoiser=4_667_000_000,
        encoders=1_450_000_000,
        autoencoder=84_000_000,
        largest_layer=63_000_000,
        step_bytes=3 * GIB // 2,
    ),
    "qwen-edit": Footprint(
        denoiser=20_430_000_000,
        encoders=8_292_000_000,
        autoencoder=127_000_000,
        largest_layer=545_000_000,
        step_bytes=2 * GIB,
    ),
    # The sizes of 4B.
    "flux2-klein": Footprint(
        denoiser=3_876_000_000,
        encoders=4_022_000_000,
        autoencoder=84_000_000,
        largest_layer=389_000_000,
        step_bytes=2 * GIB,
    ),
}
"""Of the engines that do not fit everywhere; counted on the true configurations."""


@dataclass(frozen=True, kw_only=True)
class MemoryProfile:
    """Where the weights are, and what that takes.

    `full` has all on the GPU, in 16 bits. `quantised` keeps the denoiser there in 8 bits. In `offload` what
    does not fit waits in the machine's own memory and comes layer by layer. `waiting` names the parts that
    wait: `encoders` alone cost a moment for each new prompt, the `denoiser` some seconds in every step.
    The autoencoder works in tiles where `tiled`.
    """

    name: ProfileName
    waiting: tuple[str, ...] = ()
    tiled: bool = False
    device_bytes: int = 0
    host_bytes: int = 0

    @property
    def words(self) -> str:
        """What the profile does, in one line for a person."""
        what = {
            "full": "all weights on the GPU",
            "quantised": "the denoiser's weights on the GPU, in 8 bits",
            "offload": "the autoencoder on the GPU",
        }[self.name]
        if self.name == "offload" and "denoiser" not in self.waiting:
            what = "the denoiser's weights on the GPU"
        if self.waiting:
            waiting = " and ".join(self.waiting)
            what += f", {waiting} in {_round_up(self.host_bytes)} GB of the machine's memory until needed"
        if self.tiled:
            what += ", pictures decoded in tiles"
        return f"{self.name}: {what}; takes about {_round_up(self.device_bytes)} GB of the GPU's memory"


FULL = MemoryProfile(name="full")
"""Of an engine that fits everywhere, and of a device whose memory is the machine's own."""


def choose_memory_profile(engine: str, free_bytes: int, wanted: str = "auto") -> MemoryProfile:
    """The profile with the fastest drawings, of those whose weights are least changed, that fits into
    `free_bytes` of a GPU.

    `wanted` is `auto` or the name of a profile (`UNDERSTUDY_MEMORY_PROFILE`), of which the fastest that
    fits is taken.

    Raises:
        EngineError: none fits (`engine_load_failed`); the message has both numbers.
    """
    footprint = FOOTPRINTS.get(engine)
    if footprint is None:
        return FULL
    profiles = [one for one in _list_profiles(footprint) if wanted in ("auto", one.name)]
    for profile in profiles:
        if profile.device_bytes <= free_bytes:
            return profile
    least = min(profile.device_bytes for profile in profiles)
    how = "" if wanted == "auto" else f" with the memory profile {wanted}"
    what = "use a larger GPU" if wanted in ("auto", "offload") else "set UNDERSTUDY_MEMORY_PROFILE to auto"
    raise EngineError(
        f"The engine {engine} needs {_round_up(least)} GB of free GPU memory{how}, and "
        f"{_round_down(free_bytes)} GB are free; end what else uses the GPU, or {what}.",
        code="engine_load_failed",
    )


def _list_profiles(footprint: Footprint) -> Iterator[MemoryProfile]:
    """What can be done, from the best to the smallest."""
    everything = 2 * (footprint.denoiser + footprint.encoders + footprint.autoencoder)
    encoders = 2 * footprint.encoders
    denoiser = 2 * footprint.denoiser
    decoding = max(DECODE_BYTES, footprint.step_bytes)
    layers = 2 * 2 * footprint.largest_layer
    for tiled, work in ((False, decoding), (True, footprint.step_bytes)):
        yield MemoryProfile(name="full", tiled=tiled, device_bytes=everything + work)
    for tiled, work in ((False, decoding), (True, footprint.step_bytes)):
        yield MemoryProfile(
            name="offload",
            waiting=("encoders",),
            tiled=tiled,
            device_bytes=everything - encoders + max(work, layers),
            host_bytes=encoders,
        )
    for tiled, work in ((False, decoding), (True, footprint.step_bytes)):
        yield MemoryProfile(
            name="quantised",
            waiting=("encoders",),
            tiled=tiled,
            device_bytes=everything - encoders - denoiser // 2 + max(work, layers),
            host_bytes=encoders,
        )
    yield MemoryProfile(
        name="offload",
        waiting=("encoders", "denoiser"),
        tiled=True,
        device_bytes=2 * footprint.autoencoder + footprint.step_bytes + layers,
        host_bytes=encoders + denoiser,
    )


def _round_up(count: int) -> float:
    return math.ceil(count / 1e8) / 10


def _round_down(count: int) -> float:
    return math.floor(count / 1e8) / 10
