"""The SDXL engine: a ControlNet for the pose, an IP-Adapter for the character.

One code for the embedded checkpoint and for real SDXL weights; `checkpoint.py` loads either.
It knows one batch of requests at a time, and nothing of jobs, files or messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy
import torch
from diffusers import StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image
from torch.nn import functional

from ..pose.drawing import draw_skeleton
from ..settings import Settings
from . import DrawRequest, DrawResult, OnStep
from .canvas import choose_canvas, resize_picture
from .checkpoint import (
    Checkpoint,
    Profile,
    find_checkpoint,
    load_detector,
    load_pipeline,
)
from .cores import Cores
from .detector import PoseDetector
from .device import choose_device, count_cores, prepare_torch, torch_for_drawing
from .embeddings import Embeddings, ReferenceEmbedding, TextEmbedding
from .idle import warn_of_idle_parameters, warn_of_long_text
from .likeness import score_likeness
from .memory import out_of_memory_explained
from .noise import seed_noise
from .preview import Previewer, sketch_latents
from .replay import ReplayedForward
from .watch import AllCancelled, Watch

MOST_TOGETHER = 4
"""The most pictures of one batch, so that no cancel and no other request waits for long."""


def load_sdxl(settings: Settings, checkpoint: Checkpoint | None = None) -> SdxlEngine:
    """Load the checkpoint that the settings name, or the given one, onto the device that they name.

    Raises:
        EngineError: weights or device are missing (`engine_load_failed`).
    """
    device = choose_device(settings.device)
    if checkpoint is None:
        checkpoint = find_checkpoint(settings)
    profile = checkpoint.profile
    # Cores that share the rows of a batch would only be disturbed by sharing single operations too.
    replayed = profile.small_networks and torch.device(device).type == "cpu"
    prepare_torch(1 if replayed else count_cores(settings))
    pipeline = load_pipeline(checkpoint, device)
    cores = Cores(count_cores(settings) if replayed else 1)
    if replayed:
        _replay_networks(pipeline, cores)
    return SdxlEngine(pipeline, profile, device, cores, load_detector(checkpoint))


class SdxlEngine:
    """A loaded SDXL-shaped pipeline on one device. Draws one batch at a time."""

    scores_likeness = True

    def __init__(
        self,
        pipeline: StableDiffusionXLControlNetPipeline,
        profile: Profile,
        device: str,
        cores: Cores | None = None,
        detector: PoseDetector | None = None,
    ) -> None:
        """`cores` do at the same time what nothing else divides among them."""
        self._cores = cores or Cores(1)
        self._threads = torch.get_num_threads()
        self.detector = detector
        self.name = profile.name
        self.version = profile.version
        self.device = device
        self.batch_size = _choose_batch_size(device, profile)
        self._profile = profile
        self._posed = pipeline
        shared = {name: part for name, part in pipeline.components.items() if name != "controlnet"}
        self._unposed = StableDiffusionXLPipeline(
            **shared,
            force_zeros_for_empty_prompt=pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        self._unposed.set_progress_bar_config(disable=True)
        for either in (self._posed, self._unposed):
            either.prepare_ip_adapter_image_embeds = _take_embeddings
        if hasattr(pipeline.vae, "enable_slicing"):
            # Decoding takes the most memory of all: one picture after another.
            pipeline.vae.enable_slicing()
        self._ip_scale: float | None = None
        self._embeddings = Embeddings(pipeline)

    def draw(self, requests: Sequence[DrawRequest], on_step: OnStep) -> list[DrawResult | None]:
        """Draw pictures at the model's own size and bring them to the asked one.

        The requests agree as `DrawRequest` says. A cancelled one is drawn on for nothing as long
        as others go on: that leaves them as they are.

        Raises:
            EngineError: the memory does not suffice (`out_of_memory`).
        """
        first, profile = requests[0], self._profile
        canvas = choose_canvas(first.width, first.height, profile.canvas_pixels, profile.canvas_multiple)
        watch = Watch(range(len(requests)), on_step)
        previewer = Previewer(self._posed.scheduler, partial(sketch_latents, self._posed.vae))
        with out_of_memory_explained(), torch_for_drawing(self._threads):
            self._set_ip_scale(profile.ip_scale if first.ip_scale is None else first.ip_scale)
            pipeline, poses = self._choose_poses(requests, canvas)
            try:
                pictures = pipeline(
                    **self._condition(requests),
                    **poses,
                    **self._seed_noise(requests, canvas),
                    width=canvas[0],
                    height=canvas[1],
                    original_size=profile.told_size,
                    target_size=profile.told_size,
                    num_inference_steps=first.steps,
                    guidance_scale=first.guidance_scale,
                    callback_on_step_end=watch.report_steps(pipeline, previewer),
                ).images
            except AllCancelled:
                return [None] * len(requests)
        return [
            self._finish(request, picture) if wanted else None
            for request, picture, wanted in zip(requests, pictures, watch.wanted, strict=True)
        ]

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float | None:
        """How alike the characters in RGB pictures are, 0 to 1 (`likeness.py` has the formula).

        Several references are one character: the mean of their identities counts.
        """
        with out_of_memory_explained(), torch_for_drawing(self._threads):
            known = [self._embeddings.encode_reference(reference).identity for reference in references]
            drawn = self._embeddings.encode_identity(picture)
        mean = functional.normalize(torch.stack(known).mean(dim=0), dim=0)
        return score_likeness(mean, drawn, self._profile.likeness_floor)

    def _set_ip_scale(self, scale: float) -> None:
        if scale == self._ip_scale:
            return
        self._posed.set_ip_adapter_scale(scale)
        self._ip_scale = scale
        if isinstance(self._posed.unet.forward, ReplayedForward):
            self._posed.unet.forward.forget()

    def _condition(self, requests: Sequence[DrawRequest]) -> dict[str, Any]:
        """The pipeline's arguments for prompts, negative prompts and references."""

        def encode_texts() -> tuple[list[TextEmbedding], list[TextEmbedding]]:
            prompts = [self._embeddings.encode_text(request.prompt) for request in requests]
            if requests[0].guidance_scale <= 1:
                return prompts, []
            return prompts, [
                self._embeddings.encode_negative(request.negative_prompt) for request in requests
            ]

        def encode_references() -> list[list[ReferenceEmbedding]]:
            return [
                [self._embeddings.encode_reference(reference) for reference in request.references]
                for request in requests
            ]

        references, (prompts, negatives) = self._cores.do([encode_references, encode_texts])
        # The IP-Adapter attends to the tokens of all references of a picture together.
        states = [torch.cat([one.states for one in several], dim=1) for several in references]
        arguments: dict[str, Any] = {
            "prompt_embeds": torch.cat([prompt.states for prompt in prompts]),
            "pooled_prompt_embeds": torch.cat([prompt.pooled for prompt in prompts]),
        }
        if negatives:
            arguments |= {
                "negative_prompt_embeds": torch.cat([negative.states for negative in negatives]),
                "negative_pooled_prompt_embeds": torch.cat([negative.pooled for negative in negatives]),
            }
            empty = [torch.cat([one.empty_states for one in several], dim=1) for several in references]
            states = [*empty, *states]
        return arguments | {"ip_adapter_image_embeds": [torch.cat(states)]}

    def _choose_poses(
        self, requests: Sequence[DrawRequest], canvas: tuple[int, int]
    ) -> tuple[StableDiffusionXLControlNetPipeline | StableDiffusionXLPipeline, dict[str, Any]]:
        """The pipeline with or without a ControlNet, and its arguments for the poses."""
        first, profile = requests[0], self._profile
        if first.skeleton is None and not profile.empty_skeleton:
            return self._unposed, {}
        scale = (canvas[0] / first.width, canvas[1] / first.height, 1.0)
        pose_scale = profile.pose_scale if first.pose_scale is None else first.pose_scale
        skeletons = [
            numpy.zeros((18, 3)) if request.skeleton is None else request.skeleton for request in requests
        ]
        return self._posed, {
            "image": [
                draw_skeleton(skeleton * scale, *canvas, profile.stick_style) for skeleton in skeletons
            ],
            "controlnet_conditioning_scale": float(pose_scale),
        }

    def _seed_noise(self, requests: Sequence[DrawRequest], canvas: tuple[int, int]) -> dict[str, Any]:
        """The first latents, and the generators of a scheduler that adds noise on its way."""
        factor = self._posed.vae_scale_factor
        shape = (1, self._posed.unet.config.in_channels, canvas[1] // factor, canvas[0] // factor)
        noises, generators = zip(*(seed_noise(request.seed, shape) for request in requests), strict=True)
        return {
            "latents": torch.cat(noises).to(self._posed.unet.dtype),
            "generator": list(generators),
        }

    def _finish(self, request: DrawRequest, picture: Image.Image) -> DrawResult:
        picture = resize_picture(picture, (request.width, request.height), self._cores)
        warnings = [*warn_of_idle_parameters(request), *self._warn_of_long_prompts(request)]
        return DrawResult(picture=picture, warnings=warnings)

    def _warn_of_long_prompts(self, request: DrawRequest) -> Iterator[str]:
        for name in ("prompt", "negative_prompt"):
            yield from warn_of_long_text(name, *self._embeddings.count_tokens(getattr(request, name)))


def _replay_networks(pipeline: StableDiffusionXLControlNetPipeline, cores: Cores) -> None:
    unet, controlnet = pipeline.unet, pipeline.controlnet
    outputs = ("down_block_additional_residuals", "mid_block_additional_residual")
    unet.forward = ReplayedForward(unet.forward, outputs, cores)
    config = controlnet.config
    blocks = (*config.down_block_types, config.mid_block_type)
    reads_prompt = config.addition_embed_type is not None or any("CrossAttn" in block for block in blocks)
    told_apart_by = None if reads_prompt else "controlnet_cond"
    controlnet.forward = ReplayedForward(controlnet.forward, (), cores, told_apart_by)


def _take_embeddings(images: Any, embeddings: list[torch.Tensor], *_: Any) -> list[torch.Tensor]:
    """The pipeline's step that repeats one reference for every picture: here each has its own."""
    return embeddings


def _choose_batch_size(device: str, profile: Profile) -> int:
    """How many pictures to draw together.

    On a GPU a batch fills what one picture leaves idle; as many as its free memory holds, now
    that the weights are loaded. A CPU is full with one picture, save where the networks are small:
    then four together take two thirds of the time on two cores (`benchmarks/engine.py`).
    """
    if torch.device(device).type != "cuda":
        return MOST_TOGETHER if profile.small_networks else 1
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST_TOGETHER, free_bytes // profile.picture_bytes))
