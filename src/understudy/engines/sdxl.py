"""The SDXL engine: a ControlNet for the pose, an IP-Adapter for the character.

One code for the embedded checkpoint and for real SDXL weights; `checkpoint.py` loads either.
It knows one batch of requests at a time, and nothing of jobs, files or messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy
import torch
from diffusers import StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image
from torch.nn import functional

from ..pose.drawing import draw_skeleton
from ..settings import Settings
from . import DrawRequest, DrawResult, EngineError, OnStep
from .canvas import choose_canvas
from .checkpoint import (
    Checkpoint,
    Profile,
    choose_device,
    count_cores,
    find_checkpoint,
    load_detector,
    load_pipeline,
    prepare_torch,
)
from .cores import Cores
from .detector import PoseDetector
from .embeddings import Embeddings, ReferenceEmbedding, TextEmbedding
from .likeness import score_likeness
from .preview import Previewer
from .replay import ReplayedForward

logger = logging.getLogger(__name__)

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
        watch = _Watch(len(requests), on_step)
        with _out_of_memory_explained(), _denormals_flushed():
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
                    callback_on_step_end=watch.report_steps(pipeline),
                ).images
            except _AllCancelled:
                return [None] * len(requests)
        return [
            self._finish(request, picture) if wanted else None
            for request, picture, wanted in zip(requests, pictures, watch.wanted, strict=True)
        ]

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float | None:
        """How alike the characters in RGB pictures are, 0 to 1 (`likeness.py` has the formula).

        Several references are one character: the mean of their identities counts.
        """
        with _out_of_memory_explained(), _denormals_flushed():
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
        """The first latents, and the generators of a scheduler that adds noise on its way.

        torch's generator reads 32 bits of a seed only, so seeds that differ by a multiple of
        2**32 would draw the same picture; NumPy's reads them all, and gives every device the
        same noise.
        """
        factor = self._posed.vae_scale_factor
        shape = (1, self._posed.unet.config.in_channels, canvas[1] // factor, canvas[0] // factor)
        noises, generators = [], []
        for request in requests:
            source = numpy.random.default_rng(request.seed)
            noises.append(torch.from_numpy(source.standard_normal(shape, dtype=numpy.float32)))
            generators.append(torch.Generator().manual_seed(int(source.integers(2**32))))
        return {"latents": torch.cat(noises).to(self._posed.unet.dtype), "generator": generators}

    def _finish(self, request: DrawRequest, picture: Image.Image) -> DrawResult:
        size = (request.width, request.height)
        if picture.size != size:
            picture = self._resize(picture, size)
        warnings = [*self._warn_of_idle_parameters(request), *self._warn_of_long_prompts(request)]
        return DrawResult(picture=picture, warnings=warnings)

    def _resize(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The picture at a size, each core making a strip of it: the same pixels as in one piece."""
        if picture.height % self._cores.count or size[1] % self._cores.count:
            return picture.resize(size, Image.Resampling.LANCZOS)
        have, want = picture.height // self._cores.count, size[1] // self._cores.count

        def make_strip(number: int) -> Image.Image:
            box = (0, number * have, picture.width, (number + 1) * have)
            return picture.resize((size[0], want), Image.Resampling.LANCZOS, box)

        whole = Image.new(picture.mode, size)
        strips = self._cores.do([partial(make_strip, number) for number in range(self._cores.count)])
        for number, strip in enumerate(strips):
            whole.paste(strip, (0, number * want))
        return whole

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


class _AllCancelled(Exception):
    """Ends a drawing that nobody waits for any more."""


class _Watch:
    """Tells the steps of a batch, and remembers which of its requests are still wanted."""

    def __init__(self, count: int, on_step: OnStep) -> None:
        self.wanted = [True] * count
        self._on_step = on_step

    def report_steps(self, pipeline: Any) -> Callable[..., dict[str, Any]]:
        previewer = Previewer(pipeline)

        def report(_: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            step, steps = index + 1, pipeline.num_timesteps
            previews = previewer.show(step, steps, tensors["latents"]) or [None] * len(self.wanted)
            for number, preview in enumerate(previews):
                if self.wanted[number]:
                    self.wanted[number] = self._on_step(number, step, steps, preview)
            if not any(self.wanted):
                raise _AllCancelled
            return tensors

        return report


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
