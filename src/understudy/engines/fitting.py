"""A loaded pipeline fitted to its device: where its weights lie, in what form, and how its networks run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from diffusers.models.attention_dispatch import _HUB_KERNELS_REGISTRY, AttentionBackendName
from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from PIL import Image
from torch.utils._triton import has_triton

from ..pose.library import find_pose
from ..pose.skeleton import fit_skeleton
from ..settings import Settings
from . import DrawRequest, Engine
from .memory_profile import FULL, MemoryProfile, choose_memory_profile

logger = logging.getLogger(__name__)

DENOISER = ("unet", "transformer", "controlnet")
ENCODERS = ("text_encoder", "text_encoder_2", "image_encoder")
AUTOENCODER = "vae"

STORED = torch.float8_e4m3fn
"""What a quantised denoiser's weights are kept as; each layer's become 16 bits while it computes."""
WHOLE = (*DEFAULT_SKIP_MODULES_PATTERN, "image_embeds")
"""Names of layers that are kept in 16 bits: norms, and that of a plain IP-Adapter, which brings its input to
the form that the layer is kept in."""
TILE_SIDE = 512
"""Of a tile in pixels. The autoencoders' own tiles are as large as a whole picture."""

REPEATED = frozenset(
    {
        "BasicTransformerBlock",
        "ResnetBlock2D",
        "IPAdapterPlusImageProjectionBlock",
        "QwenImageTransformerBlock",
        "Flux2TransformerBlock",
        "Flux2SingleTransformerBlock",
    }
)
"""The blocks that the networks consist of. Compiled one by one they take a sixth of the time that
compiling whole networks takes, and a ControlNet and an autoencoder have them too."""
MOST_VARIANTS = 64
"""Of a block's program, one for each kind of arguments; past them a block runs uncompiled."""
WARM_UP_SIZE = 1024, 768
"""Not square: a program that was made while two sides were equal may serve no others."""


def measure_memory(settings: Settings, engine: str, device: str) -> MemoryProfile:
    """The memory profile for what a device has free now; on a CPU there is nothing to choose.

    Raises:
        EngineError: it has too little for any (`engine_load_failed`).
    """
    if torch.device(device).type != "cuda":
        return FULL
    free_bytes, _ = torch.cuda.mem_get_info(device)
    profile = choose_memory_profile(engine, free_bytes, settings.memory_profile)
    logger.info("memory profile %s", profile.words)
    return profile


def choose_first_place(device: str, memory: MemoryProfile) -> str:
    """Where weights are loaded to: onto the device, unless it does not hold all of them as they are."""
    return device if memory.name == "full" else "cpu"


def fit_pipeline(pipeline: Any, device: str, memory: MemoryProfile) -> None:
    """Bring a pipeline from where it was loaded onto its device, as the profile says.

    Adapters come before: what is loaded later is laid out by nobody.
    """
    on_gpu = torch.device(device).type == "cuda"
    for name, part in pipeline.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        if on_gpu and name not in ENCODERS and _is_flat(part):
            part.to(memory_format=torch.channels_last)
        if name in DENOISER and memory.name == "quantised":
            part.enable_layerwise_casting(STORED, part.dtype, WHOLE)
        if (name in DENOISER and "denoiser" in memory.waiting) or (
            name in ENCODERS and "encoders" in memory.waiting
        ):
            apply_group_offloading(
                part, onload_device=torch.device(device), offload_type="leaf_level", use_stream=on_gpu
            )
        else:
            part.to(device)
    if memory.tiled:
        _decode_in_tiles(pipeline.vae)
    if on_gpu and hasattr(pipeline, "transformer"):
        _choose_attention(pipeline.transformer, device)


def make_blank_references() -> list[Image.Image]:
    """One picture to warm up with, which shows nothing."""
    return [Image.new("RGB", WARM_UP_SIZE, "white")]


def compile_engine(
    engine: Engine,
    pipeline: Any,
    settings: Settings,
    memory: MemoryProfile,
    make_references: Callable[[], Sequence[Image.Image]] = make_blank_references,
) -> None:
    """Compile the blocks of an engine's fitted pipeline where that is wanted and wise, and warm it up with
    a reference of each kind.

    The programs are kept in the data folder, so that the next start finds them.
    """
    if settings.compile == "off" or memory.name != "full":
        # Weights that come and go or change their form are nothing to compile.
        return
    if settings.compile == "auto" and not (torch.device(engine.device).type == "cuda" and has_triton()):
        return
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(settings.data_dir).absolute() / "compiled"))
    # A block that cannot be compiled runs as it is.
    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    compile_blocks(pipeline)
    warm_up(engine, make_references())


def compile_blocks(pipeline: Any, backend: str = "inductor") -> int:
    """Mark every repeated block for `torch.compile`; returns how many there are.

    One program serves every size. With one for each size, a picture's bytes would depend on which
    sizes were drawn before it.
    """
    networks = [pipeline.components[name] for name in (*DENOISER, AUTOENCODER) if name in pipeline.components]
    blocks = [
        block for network in networks for block in network.modules() if type(block).__name__ in REPEATED
    ]
    for block in blocks:
        block.compile(dynamic=True, backend=backend)
    return len(blocks)


def warm_up(engine: Engine, references: Sequence[Image.Image]) -> None:
    """Draw every kind of request, so that none waits for what happens but once.

    A program is for one picture or for several, for one reference or for several, with or without a face:
    guidance doubles the pictures that a network sees. Always in this order, so that programs and bytes are
    the same after each start.
    """
    width, height = WARM_UP_SIZE
    for reference in references:
        usual = DrawRequest(
            prompt="a person",
            references=[reference],
            width=width,
            height=height,
            seed=0,
            steps=2,
            skeleton=fit_skeleton(find_pose("stand").keypoints, width, height),
        )
        kinds = [
            replace(usual, references=[reference] * count, guidance_scale=guidance_scale)
            for count in (1, 2)
            for guidance_scale in (usual.guidance_scale, 1.0)
        ]
        batches = [[kind] for kind in kinds]
        if engine.batch_size > 1:
            batches.append([usual] * engine.batch_size)
        for requests in batches:
            engine.draw(requests, lambda *step: True)


def _is_flat(part: torch.nn.Module) -> bool:
    """Whether it works on pictures by convolutions, and not on films."""
    kinds = {type(module) for module in part.modules()}
    return any(issubclass(kind, torch.nn.Conv2d) for kind in kinds) and not any(
        issubclass(kind, torch.nn.Conv3d) for kind in kinds
    )


def _decode_in_tiles(vae: Any) -> None:
    vae.enable_tiling()
    if hasattr(vae, "tile_latent_min_size"):
        shrinking = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.tile_sample_min_size = TILE_SIDE
        vae.tile_latent_min_size = TILE_SIDE // shrinking


def _choose_attention(transformer: Any, device: str) -> None:
    """Take FlashAttention-3 (Shah et al., arXiv 2407.08608) on a Hopper GPU if its kernel is on this
    machine; else torch's own attention stays."""
    if torch.cuda.get_device_capability(device) != (9, 0) or find_spec("kernels") is None:
        return
    backend = AttentionBackendName._FLASH_3_HUB
    try:
        kept = {repository.repo_id for repository in scan_cache_dir().repos}
    except CacheNotFound:
        return
    if _HUB_KERNELS_REGISTRY[backend].repo_id not in kept:
        return
    try:
        transformer.set_attention_backend(backend.value)
    except Exception as error:
        logger.warning("FlashAttention-3 cannot be used: %s", type(error).__name__)
