"""One pass of a drawing: from latents to pictures, through an SDXL-shaped pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from diffusers import StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image

from ..pose.drawing import draw_skeleton
from ..pose.skeleton import Skeleton
from . import DrawRequest
from .checkpoint import Profile
from .conditions import Conditions
from .noise import seed_noise


class Pass:
    """A model's networks with a scheduler of the pass's own, and with or without its ControlNet."""

    def __init__(
        self,
        pipeline: StableDiffusionXLControlNetPipeline,
        scheduler: Any,
        profile: Profile,
        conditions: Conditions,
    ) -> None:
        self._profile = profile
        self._conditions = conditions
        components = pipeline.components | {"scheduler": scheduler}
        options = {
            "force_zeros_for_empty_prompt": pipeline.config.force_zeros_for_empty_prompt,
            "add_watermarker": False,
        }
        self._posed = StableDiffusionXLControlNetPipeline(**components, **options)
        del components["controlnet"]
        self._unposed = StableDiffusionXLPipeline(**components, **options)
        for either in (self._posed, self._unposed):
            either.set_progress_bar_config(disable=True)
            either.prepare_ip_adapter_image_embeds = _take_embeddings

    def run(
        self,
        requests: Sequence[DrawRequest],
        canvas: tuple[int, int],
        skeletons: Sequence[Skeleton | None],
        latents: torch.Tensor,
        generators: Sequence[torch.Generator],
        steps: int,
        report: Callable[..., dict[str, Any]],
    ) -> list[Image.Image]:
        """The pictures of requests on a canvas, in whose pixels the skeletons are.

        `report` is called after each step, as diffusers does.
        """
        first, profile = requests[0], self._profile
        guidance_scale = first.guidance_scale if profile.preset.guided else 1.0
        arguments = self._conditions.encode(requests, guided=guidance_scale > 1)
        pipeline: Any = self._unposed
        if first.skeleton is not None or profile.empty_skeleton:
            pipeline = self._posed
            pose_scale = profile.pose_scale if first.pose_scale is None else first.pose_scale
            arguments |= {
                "image": [self._draw_pose(skeleton, canvas) for skeleton in skeletons],
                "controlnet_conditioning_scale": float(pose_scale),
            }
        return pipeline(
            **arguments,
            latents=latents.to(pipeline.unet.dtype),
            generator=list(generators),
            width=canvas[0],
            height=canvas[1],
            original_size=profile.told_size,
            target_size=profile.told_size,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            callback_on_step_end=report,
        ).images

    def seed_noise(
        self, seeds: Sequence[int | tuple[int, int]], canvas: tuple[int, int]
    ) -> tuple[torch.Tensor, list[torch.Generator]]:
        """The noise of pictures, and the generators of a scheduler that adds some on its way."""
        factor = self._posed.vae_scale_factor
        shape = (1, self._posed.unet.config.in_channels, canvas[1] // factor, canvas[0] // factor)
        noises, generators = zip(*(seed_noise(seed, shape) for seed in seeds), strict=True)
        return torch.cat(noises), list(generators)

    def _draw_pose(self, skeleton: Skeleton | None, canvas: tuple[int, int]) -> Image.Image:
        skeleton = numpy.zeros((18, 3)) if skeleton is None else skeleton
        return draw_skeleton(skeleton, *canvas, self._profile.stick_style)


def _take_embeddings(images: Any, embeddings: list[torch.Tensor], *_: Any) -> list[torch.Tensor]:
    """The pipeline's step that repeats one reference for every picture: here each has its own."""
    return embeddings
