"""What a pipeline's encoders make of prompts and pictures, kept by content.

A sheet of poses asks for the same prompt and the same reference again and again; each is
encoded once. A kept embedding is the very tensor that was computed, so it changes no pixel.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionXLControlNetPipeline
from diffusers.models.embeddings import ImageProjection
from PIL import Image

from .canvas import square_picture

KEPT = 32
"""How many embeddings of each kind are kept; the least recently used goes first."""


class TextEmbedding(NamedTuple):
    """`states` (1, tokens, channels) and `pooled` (1, channels)."""

    states: torch.Tensor
    pooled: torch.Tensor


class ReferenceEmbedding(NamedTuple):
    """The IP-Adapter's input for the reference and for no reference, (1, 1, tokens, channels) each,
    and the identity as `Embeddings.encode_identity` gives it."""

    states: torch.Tensor
    empty_states: torch.Tensor
    identity: torch.Tensor


class Embeddings:
    """The embeddings of one pipeline."""

    def __init__(self, pipeline: StableDiffusionXLControlNetPipeline) -> None:
        self._pipeline = pipeline
        self._texts: OrderedDict[Any, TextEmbedding] = OrderedDict()
        self._references: OrderedDict[Any, ReferenceEmbedding] = OrderedDict()
        self._nothing: torch.Tensor | None = None

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

        return _keep(self._texts, text, encode)

    def encode_negative(self, text: str) -> TextEmbedding:
        """The embedding of a negative prompt; zeros for an empty one where the model wants that."""
        embedding = self.encode_text(text)
        if text or not self._pipeline.config.force_zeros_for_empty_prompt:
            return embedding
        return TextEmbedding(torch.zeros_like(embedding.states), torch.zeros_like(embedding.pooled))

    @torch.no_grad()
    def encode_reference(self, picture: Image.Image) -> ReferenceEmbedding:
        """The embedding of a reference picture, RGB of any proportions."""

        def encode() -> ReferenceEmbedding:
            pixels = self._read_pixels(picture)
            seen = self._pipeline.image_encoder(pixels, output_hidden_states=self._adapter_reads_states)
            states = self._choose_states(seen)
            return ReferenceEmbedding(states, self._encode_nothing(pixels, states), _find_identity(seen))

        return _keep(self._references, _digest(picture), encode)

    @torch.no_grad()
    def encode_identity(self, picture: Image.Image) -> torch.Tensor:
        """The image encoder's projected embedding of a picture, of unit length: (channels,)."""
        return _find_identity(self._pipeline.image_encoder(self._read_pixels(picture)))

    @property
    def _adapter_reads_states(self) -> bool:
        """Whether the IP-Adapter reads the encoder's last states but one, and not its embedding."""
        projection = self._pipeline.unet.encoder_hid_proj.image_projection_layers[0]
        return not isinstance(projection, ImageProjection)

    def _read_pixels(self, picture: Image.Image) -> torch.Tensor:
        encoder = self._pipeline.image_encoder
        pixels = self._pipeline.feature_extractor(square_picture(picture), return_tensors="pt").pixel_values
        return pixels.to(encoder.device, encoder.dtype)

    def _choose_states(self, seen: Any) -> torch.Tensor:
        return (seen.hidden_states[-2] if self._adapter_reads_states else seen.image_embeds)[None]

    def _encode_nothing(self, pixels: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """What stands for no reference: the states of a picture of zeros, or a zero embedding."""
        if not self._adapter_reads_states:
            return torch.zeros_like(states)
        if self._nothing is None:
            encoder = self._pipeline.image_encoder
            self._nothing = self._choose_states(encoder(torch.zeros_like(pixels), output_hidden_states=True))
        return self._nothing


def _find_identity(seen: Any) -> torch.Tensor:
    embedding = seen.image_embeds[0].float().cpu()
    return embedding / embedding.norm()


def _digest(picture: Image.Image) -> tuple[tuple[int, int], bytes]:
    return picture.size, hashlib.sha256(picture.tobytes()).digest()


def _keep(kept: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return kept[key]
