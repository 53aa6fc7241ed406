"""What the engines have in common that draw by editing pictures.

Their models read the character's references and an OpenPose skeleton as pictures, one after another,
and a prompt that says which is which. They know one request at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch.nn import functional
from transformers import PreTrainedModel

from ..pose.drawing import draw_whole_body
from ..pose.whole_body import WholeBody
from . import DrawRequest, DrawResult, OnStep
from .canvas import choose_canvas, fit_picture, pad_picture, resize_picture
from .detector import PoseDetector
from .device import torch_for_drawing
from .fitting import choose_first_place
from .idle import warn_of_idle_parameters, warn_of_step_count
from .kept import Kept, digest_content
from .loading import loading
from .memory import out_of_memory_explained
from .memory_profile import MemoryProfile
from .noise import seed_noise
from .presets import Preset
from .preview import Previewer
from .roles import write_roles
from .watch import AllCancelled, Watch

MOST_ASPECT = 8
"""The longer side of a picture by its shorter one, more than which a model may not take."""
PADDED_ASPECT = 4
"""References that are longer are padded: half, so that rounding leads nowhere near."""
LEAST_SIDE = 64
"""A side of a picture in pixels that every model takes."""
PREVIEW_CELLS = 32
"""The longer side of a preview in cells of the autoencoder, 8 pixels each."""
KEPT = 16
"""How many embeddings of prompts, and how many of pictures, are kept: some 10 MB each."""


@dataclass(frozen=True, kw_only=True)
class EditProfile:
    """What is particular about a model.

    `canvas_pixels` is the area that it draws best, in square pixels, and both sides of its canvas are
    multiples of `canvas_multiple`. Skeletons are drawn with `pose_pixels`; references have
    `reference_pixels` at most.
    """

    canvas_pixels: int
    canvas_multiple: int
    pose_pixels: int
    reference_pixels: int


class EditEngine(ABC):
    """A loaded pipeline on one device. Draws one picture after another."""

    name: ClassVar[str]
    picture_word: ClassVar[str]
    """What the model calls the pictures that it is given."""
    batch_size = 1
    """One: the pipelines give all pictures of a batch the same references and skeleton."""
    scores_likeness = False
    detector: PoseDetector | None = None

    def __init__(
        self, pipeline: DiffusionPipeline, preset: Preset, profile: EditProfile, device: str
    ) -> None:
        self.preset = preset
        self.version = Path(preset.model).name
        self.device = device
        self._pipeline = pipeline
        self._profile = profile
        self._threads = torch.get_num_threads()
        self._prompts, self._pictures = Kept(KEPT), Kept(KEPT)
        # A prompt with the same pictures is encoded once, whatever else a request changes; so is a picture.
        pipeline.encode_prompt = partial(self._encode_prompt, pipeline.encode_prompt)
        pipeline._encode_vae_image = partial(self._encode_picture, pipeline._encode_vae_image)

    def draw(self, requests: Sequence[DrawRequest], on_step: OnStep) -> list[DrawResult | None]:
        """Draw pictures at the model's own size, one after another, and bring them to the asked one.

        Raises:
            EngineError: the memory does not suffice (`out_of_memory`).
        """
        return [self._draw_one(number, request, on_step) for number, request in enumerate(requests)]

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float | None:
        """None: the model has no embedding of a character's identity."""
        return None

    def _draw_one(self, number: int, request: DrawRequest, on_step: OnStep) -> DrawResult | None:
        profile = self._profile
        canvas = choose_canvas(request.width, request.height, profile.canvas_pixels, profile.canvas_multiple)
        noise, generator = seed_noise(request.seed, self._shape_noise(canvas))
        watch = Watch([number], on_step)
        previewer = Previewer(self._pipeline.scheduler, partial(self._sketch, canvas))
        with out_of_memory_explained(), torch_for_drawing(self._threads):
            try:
                picture = self._pipeline(
                    **self._guide(request),
                    image=self._gather_pictures(request),
                    width=canvas[0],
                    height=canvas[1],
                    num_inference_steps=self.preset.count_steps(request.steps),
                    latents=noise,
                    generator=generator,
                    callback_on_step_end=watch.report_steps(previewer),
                ).images[0]
            except AllCancelled:
                return None
        picture = resize_picture(picture, (request.width, request.height))
        return DrawResult(picture=picture, warnings=list(self._warn(request)))

    def _encode_prompt(
        self,
        encode: Callable[..., Any],
        prompt: str,
        prompt_embeds: torch.Tensor | None = None,
        **others: Any,
    ) -> Any:
        """The pipeline's own step, once for each prompt and the pictures that are read with it."""
        arguments = {"prompt": prompt, "prompt_embeds": prompt_embeds, **others}
        if prompt_embeds is not None:
            return encode(**arguments)
        pictures = tuple(digest_content(picture) for picture in others.get("image") or ())
        return self._prompts.get((prompt, pictures), partial(encode, **arguments))

    def _encode_picture(
        self, encode: Callable[..., torch.Tensor], image: torch.Tensor, generator: Any
    ) -> torch.Tensor:
        """The pipeline's own step, once for each picture; chance has no part in it."""
        return self._pictures.get(digest_content(image), partial(encode, image=image, generator=generator))

    def _gather_pictures(self, request: DrawRequest) -> list[Image.Image]:
        """The references, then the skeleton when there is one."""
        profile = self._profile
        pictures = [
            fit_picture(
                pad_picture(reference, PADDED_ASPECT),
                profile.reference_pixels,
                profile.canvas_multiple,
                LEAST_SIDE,
            )
            for reference in request.references
        ]
        if request.skeleton is not None:
            pictures.append(self._draw_pose(request))
        return pictures

    def _draw_pose(self, request: DrawRequest) -> Image.Image:
        profile = self._profile
        multiple = profile.canvas_multiple
        size = choose_canvas(request.width, request.height, profile.pose_pixels, multiple)
        least = max(LEAST_SIDE, multiple * math.ceil(max(size) / MOST_ASPECT / multiple))
        width, height = (max(side, least) for side in size)
        body = WholeBody(request.skeleton, request.hands, request.face)
        return draw_whole_body(body.scale(width / request.width, height / request.height), width, height)

    def _write_prompt(self, request: DrawRequest, prompt: str) -> str:
        return write_roles(prompt, len(request.references), request.skeleton is not None, self.picture_word)

    def _sketch(self, canvas: tuple[int, int], latents: torch.Tensor) -> torch.Tensor:
        """RGB of packed clean latents (1, ...): (1, h, w, 3), about 0..255.

        The autoencoder decodes an average of them, which costs a sixteenth of the picture itself.
        """
        cells = self._unpack(latents, canvas)
        height, width = cells.shape[-2:]
        shrink = min(1.0, PREVIEW_CELLS / max(height, width))
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        small = functional.interpolate(cells, size=size, mode="area")
        pixels = self._decode(small.to(self._pipeline.vae.dtype))
        return pixels.permute(0, 2, 3, 1).float() * 127.5 + 127.5

    def _warn(self, request: DrawRequest) -> Iterator[str]:
        yield from warn_of_idle_parameters(request, self.preset.idle)
        yield from warn_of_step_count(request.steps, self.preset.count_steps(request.steps))

    @abstractmethod
    def _guide(self, request: DrawRequest) -> dict[str, Any]:
        """The pipeline's arguments for the prompt, the negative prompt and the guidance."""

    @abstractmethod
    def _shape_noise(self, canvas: tuple[int, int]) -> tuple[int, ...]:
        """The shape of the first latents, as the pipeline takes them."""

    @abstractmethod
    def _unpack(self, latents: torch.Tensor, canvas: tuple[int, int]) -> torch.Tensor:
        """Latents of the pipeline as the autoencoder decodes them, (1, channels, h, w)."""

    @abstractmethod
    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's picture of latents (1, channels, h, w): (1, 3, 8 h, 8 w) in -1..1."""


def load_edit_pipeline(
    kind: type[DiffusionPipeline],
    encoder_kind: type[PreTrainedModel],
    folder: str,
    device: str,
    memory: MemoryProfile,
    setting: str,
    **parts: Any,
) -> Any:
    """Load a pipeline from a folder, in bfloat16 for a GPU and float32 elsewhere, to where `fitting.py`
    takes it from.

    Raises:
        EngineError: its weights are missing or broken (`engine_load_failed`); the message names
            `setting`.
    """
    options = {
        "dtype": torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32,
        "use_safetensors": True,
    }
    with loading("model", setting):
        encoder, told = encoder_kind.from_pretrained(
            folder, subfolder="text_encoder", output_loading_info=True, **options
        )
        # transformers makes up what a file does not have; the last layer is for writing, not for reading.
        if missing := {key for key in told["missing_keys"] if not key.startswith("lm_head.")}:
            raise ValueError(f"the text encoder's weights are not whole: {min(missing)} is missing")
        pipeline = kind.from_pretrained(folder, text_encoder=encoder, **options, **parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(choose_first_place(device, memory))
