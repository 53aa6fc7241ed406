"""What a pipeline's encoders make of prompts and pictures, kept by content.

A sheet of poses asks for the same prompt and the same reference again and again; each is
encoded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionXLControlNetPipeline
from diffusers.models.embeddings import ImageProjection
from PIL import Image

from .canvas import square_picture
from .kept import Kept, digest_content

KEPT = 32
"""How many embeddings of each kind are kept."""
LEAST_FACE = 32
"""The shorter side, in pixels, of what an adapter for faces is shown; smaller it shows nothing."""
WHOLE, FACE = 0, 1
"""A pipeline's adapters in their order."""

FindFace = Callable[[Image.Image], tuple[int, int, int, int] | None]
"""A picture -> left, top, right, bottom of the face in it; None where there is none to be found."""


class TextEmbedding(NamedTuple):
    """`states` (1, tokens, channels) and `pooled` (1, channels)."""

    states: torch.Tensor
    pooled: torch.Tensor


class AdapterInput(NamedTuple):
    """What an IP-Adapter reads of a picture, and of none, (1, 1, tokens, channels) each."""

    states: torch.Tensor
    empty_states: torch.Tensor


class ReferenceEmbedding(NamedTuple):
    """What is read of a reference: as a whole, of its face where there is an adapter for faces, and the
    identity as `Embeddings.encode_identity` gives it."""

    whole: AdapterInput
    face: AdapterInput | None
    shows_face: bool
    identity: torch.Tensor


class Embeddings:
    """The embeddings of one pipeline."""

    def __init__(self, pipeline: StableDiffusionXLControlNetPipeline, find_face: FindFace) -> None:
        """`find_face` is asked where the pipeline has a second IP-Adapter, which is one for faces."""
        self._pipeline = pipeline
        self._find_face = find_face
        self._projections = pipeline.unet.encoder_hid_proj.image_projection_layers
        self.reads_faces = len(self._projections) > 1
        self._texts, self._references = Kept(KEPT), Kept(KEPT)
        self._nothing: tuple[torch.Tensor, torch.Tensor] | None = None

    def count_tokens(self, text: str) -> tuple[int, int]:
        """How many tokens a text has, and how many of them the model reads."""
        tokenizer = self._pipeline.tokenizer_2
        marks = 2  # the marks of beginning and end
        return len(tokenizer(text).input_ids) - marks, tokenizer.model_max_length - marks

    @torch.no_grad()
    def encode_text(self, text: str) -> TextEmbedding:
        """The embedding of a prompt."""

        def encode() -> TextEmbedding:
            states, _, pooled, _ = self._pipeline.encode_prompt(text, do_classifier_free_guidance=False)
            return TextEmbedding(states, pooled)

        return self._texts.get(text, encode)

    def encode_negative(self, text: str) -> TextEmbedding:
        """The embedding of a negative prompt; zeros for an empty one where the model wants that."""
        embedding = self.encode_text(text)
        if text or not self._pipeline.config.force_zeros_for_empty_prompt:
            return embedding
        return TextEmbedding(torch.zeros_like(embedding.states), torch.zeros_like(embedding.pooled))

    @torch.no_grad()
    def encode_reference(self, picture: Image.Image, is_face: bool = False) -> ReferenceEmbedding:
        """The embedding of a reference picture, RGB of any proportions; with `is_face` all of it is taken
        for a face, as long as it is kept."""

        def encode() -> ReferenceEmbedding:
            seen = self._look_at(picture)
            whole = self._read_states(WHOLE, seen)
            face, shows_face = self._encode_face(picture, is_face) if self.reads_faces else (None, False)
            return ReferenceEmbedding(whole, face, shows_face, _find_identity(seen))

        return self._references.get(digest_content(picture), encode)

    @torch.no_grad()
    def encode_identity(self, picture: Image.Image) -> torch.Tensor:
        """The image encoder's projected embedding of a picture, of unit length: (channels,)."""
        return _find_identity(self._pipeline.image_encoder(self._read_pixels(picture)))

    def _encode_face(self, picture: Image.Image, is_face: bool) -> tuple[AdapterInput, bool]:
        """What is read of a face, and whether there is one; without, it is what is read of no picture."""
        box = (0, 0, *picture.size) if is_face else self._find_face(picture)
        if box is None or min(box[2] - box[0], box[3] - box[1]) < LEAST_FACE:
            none = self._read_nothing(FACE)
            return AdapterInput(none, none), False
        return self._read_states(FACE, self._look_at(picture.crop(box))), True

    def _look_at(self, picture: Image.Image) -> Any:
        reads_states = any(map(self._reads_states, range(len(self._projections))))
        return self._pipeline.image_encoder(self._read_pixels(picture), output_hidden_states=reads_states)

    def _reads_states(self, adapter: int) -> bool:
        """Whether an IP-Adapter reads the encoder's last states but one, and not its embedding."""
        return not isinstance(self._projections[adapter], ImageProjection)

    def _read_pixels(self, picture: Image.Image) -> torch.Tensor:
        encoder = self._pipeline.image_encoder
        pixels = self._pipeline.feature_extractor(square_picture(picture), return_tensors="pt").pixel_values
        return pixels.to(encoder.device, encoder.dtype)

    def _read_states(self, adapter: int, seen: Any) -> AdapterInput:
        states = seen.hidden_states[-2] if self._reads_states(adapter) else seen.image_embeds
        return AdapterInput(states[None], self._read_nothing(adapter))

    def _read_nothing(self, adapter: int) -> torch.Tensor:
        """What stands for no picture: the states of one of zeros, or a zero embedding."""
        if self._nothing is None:
            encoder = self._pipeline.image_encoder
            pixels = torch.zeros_like(self._read_pixels(Image.new("RGB", (1, 1))))
            seen = encoder(pixels, output_hidden_states=True)
            self._nothing = seen.hidden_states[-2][None], torch.zeros_like(seen.image_embeds)[None]
        states, embedding = self._nothing
        return states if self._reads_states(adapter) else embedding


def _find_identity(seen: Any) -> torch.Tensor:
    embedding = seen.image_embeds[0].float().cpu()
    return embedding / embedding.norm()
