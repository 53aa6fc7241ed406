"""The SDXL engine: a ControlNet for the pose, an IP-Adapter for the character.

One code for the embedded checkpoint and for real SDXL weights; `checkpoint.py` loads either.
It knows one request at a time, and nothing of jobs, files or messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from diffusers import StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image

from ..pose.drawing import draw_skeleton
from ..settings import Settings
from . import Cancelled, DrawRequest, DrawResult, EngineError, OnStep
from .canvas import choose_canvas
from .checkpoint import Profile, choose_device, find_checkpoint, load_pipeline, prepare_torch
from .embeddings import Embeddings
from .likeness import score_likeness
from .preview import Previewer

logger = logging.getLogger(__name__)


def load_sdxl(settings: Settings) -> SdxlEngine:
    """Load the checkpoint that the settings name onto the device that they name.

    Raises:
        EngineError: weights or device are missing (`engine_load_failed`).
    """
    prepare_torch(settings)
    device = choose_device(settings.device)
    checkpoint = find_checkpoint(settings)
    return SdxlEngine(load_pipeline(checkpoint, device), checkpoint.profile, device)


class SdxlEngine:
    """A loaded SDXL-shaped pipeline on one device. Draws one picture at a time."""

    def __init__(self, pipeline: StableDiffusionXLControlNetPipeline, profile: Profile, device: str) -> None:
        self.name = profile.name
        self.version = profile.version
        self.device = device
        self.batch_size = 1
        self._profile = profile
        self._posed = pipeline
        shared = {name: part for name, part in pipeline.components.items() if name != "controlnet"}
        self._unposed = StableDiffusionXLPipeline(
            **shared,
            force_zeros_for_empty_prompt=pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        self._unposed.set_progress_bar_config(disable=True)
        self._embeddings = Embeddings(pipeline)

    def draw(self, request: DrawRequest, on_step: OnStep) -> DrawResult:
        """Draw one picture at the model's own size and bring it to the asked one.

        The same request gives the same pixels on the same device.

        Raises:
            Cancelled: `on_step` answered False.
            EngineError: the memory does not suffice (`out_of_memory`).
        """
        profile = self._profile
        canvas = choose_canvas(request.width, request.height, profile.canvas_pixels, profile.canvas_multiple)
        with _out_of_memory_explained(), _denormals_flushed():
            ip_scale = profile.ip_scale if request.ip_scale is None else request.ip_scale
            self._posed.set_ip_adapter_scale(ip_scale)
            pipeline, pose = self._choose_pose(request, canvas)
            picture = pipeline(
                **self._condition(request),
                **pose,
                **self._seed_noise(request.seed, canvas),
                width=canvas[0],
                height=canvas[1],
                original_size=profile.told_size,
                target_size=profile.told_size,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance_scale,
                callback_on_step_end=_report_steps(pipeline, on_step),
            ).images[0]
        size = (request.width, request.height)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        warnings = [*self._warn_of_idle_parameters(request), *self._warn_of_long_prompts(request)]
        return DrawResult(picture=picture, warnings=warnings)

    def score_likeness(self, reference: Image.Image, picture: Image.Image) -> float | None:
        """How alike the characters in two RGB pictures are, 0 to 1 (`likeness.py` has the formula)."""
        with _out_of_memory_explained():
            first = self._embeddings.encode_identity(reference)
            second = self._embeddings.encode_identity(picture)
        return score_likeness(first, second, self._profile.likeness_floor)

    def _condition(self, request: DrawRequest) -> dict[str, Any]:
        """The pipeline's arguments for prompt, negative prompt and reference."""
        prompt = self._embeddings.encode_text(request.prompt)
        reference = self._embeddings.encode_reference(request.reference)
        arguments: dict[str, Any] = {
            "prompt_embeds": prompt.states,
            "pooled_prompt_embeds": prompt.pooled,
            "ip_adapter_image_embeds": [reference.states],
        }
        if request.guidance_scale > 1:
            negative = self._embeddings.encode_negative(request.negative_prompt)
            arguments |= {
                "negative_prompt_embeds": negative.states,
                "negative_pooled_prompt_embeds": negative.pooled,
                "ip_adapter_image_embeds": [torch.cat([reference.empty_states, reference.states])],
            }
        return arguments

    def _choose_pose(
        self, request: DrawRequest, canvas: tuple[int, int]
    ) -> tuple[StableDiffusionXLControlNetPipeline | StableDiffusionXLPipeline, dict[str, Any]]:
        """The pipeline with or without a ControlNet, and its arguments for the pose."""
        profile, skeleton = self._profile, request.skeleton
        if skeleton is None:
            if not profile.empty_skeleton:
                return self._unposed, {}
            skeleton = numpy.zeros((18, 3))
        scale = (canvas[0] / request.width, canvas[1] / request.height, 1.0)
        pose_scale = profile.pose_scale if request.pose_scale is None else request.pose_scale
        return self._posed, {
            "image": draw_skeleton(skeleton * scale, *canvas, profile.stick_style),
            "controlnet_conditioning_scale": float(pose_scale),
        }

    def _seed_noise(self, seed: int, canvas: tuple[int, int]) -> dict[str, Any]:
        """The first latents, and the generator of a scheduler that adds noise on its way.

        torch's generator reads 32 bits of a seed only, so seeds that differ by a multiple of
        2**32 would draw the same picture; NumPy's reads them all, and gives every device the
        same noise.
        """
        factor = self._posed.vae_scale_factor
        shape = (1, self._posed.unet.config.in_channels, canvas[1] // factor, canvas[0] // factor)
        source = numpy.random.default_rng(seed)
        noise = torch.from_numpy(source.standard_normal(shape, dtype=numpy.float32))
        generator = torch.Generator().manual_seed(int(source.integers(2**32)))
        return {"latents": noise.to(self._posed.unet.dtype), "generator": generator}

    def _warn_of_idle_parameters(self, request: DrawRequest) -> list[str]:
        warnings = []
        if request.negative_prompt and request.guidance_scale <= 1:
            warnings.append("negative_prompt does not act at guidance_scale 1; raise it to use both.")
        if request.pose_scale is not None and request.skeleton is None:
            warnings.append("pose_scale does not act without a pose; give pose, poses or input_image.")
        return warnings

    def _warn_of_long_prompts(self, request: DrawRequest) -> list[str]:
        warnings = []
        for name in ("prompt", "negative_prompt"):
            count, read = self._embeddings.count_tokens(getattr(request, name))
            if count > read:
                warnings.append(
                    f"The {name} has {count} tokens; the model reads the first {read}, the rest was ignored."
                )
        return warnings


def _report_steps(pipeline: Any, on_step: OnStep) -> Callable[..., dict[str, Any]]:
    previewer = Previewer(pipeline)

    def report(_: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        step, steps = index + 1, pipeline.num_timesteps
        if not on_step(step, steps, previewer.show(step, steps, tensors["latents"])):
            raise Cancelled
        return tensors

    return report


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for zero, which is much faster; in this thread, and only for now."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def _out_of_memory_explained() -> Iterator[None]:
    """Turn every way of running out of memory into one error, and give the device's cache back."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's CPU allocator and some CUDA libraries raise a plain RuntimeError.
        words = str(error).lower()
        ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            sign in words for sign in ("out of memory", "can't allocate memory", "alloc_failed")
        )
        if not ran_out:
            raise
        logger.warning("out of memory while drawing")
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise EngineError(
        "There was not enough memory to draw this picture; ask for a smaller width and height, "
        "or give the engine a larger device.",
        code="out_of_memory",
    )
