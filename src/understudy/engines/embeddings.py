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
    """The IP-Adapter's input for the reference and for no reference: (1, 1, tokens, channels)."""

    states: torch.Tensor
    empty_states: torch.Tensor


class Embeddings:
    """The embeddings of one pipeline."""

    def __init__(self, pipeline: StableDiffusionXLControlNetPipeline) -> None:
        self._pipeline = pipeline
        self._texts: OrderedDict[Any, TextEmbedding] = OrderedDict()
        self._references: OrderedDict[Any, ReferenceEmbedding] = OrderedDict()
        self._identities: OrderedDict[Any, torch.Tensor] = OrderedDict()

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
            pipeline = self._pipeline
            projection = pipeline.unet.encoder_hid_proj.image_projection_layers[0]
            states, empty_states = pipeline.encode_image(
                square_picture(picture),
                pipeline.device,
                num_images_per_prompt=1,
                output_hidden_states=not isinstance(projection, ImageProjection),
            )
            return ReferenceEmbedding(states[None], empty_states[None])

        return _keep(self._references, _digest(picture), encode)

    @torch.no_grad()
    def encode_identity(self, picture: Image.Image) -> torch.Tensor:
        """The image encoder's projected embedding of a picture, of unit length: (channels,)."""

        def encode() -> torch.Tensor:
            encoder = self._pipeline.image_encoder
            pixels = self._pipeline.feature_extractor(
                square_picture(picture), return_tensors="pt"
            ).pixel_values
            embedding = encoder(pixels.to(encoder.device, encoder.dtype)).image_embeds[0].float().cpu()
            return embedding / embedding.norm()

        return _keep(self._identities, _digest(picture), encode)


def _digest(picture: Image.Image) -> tuple[tuple[int, int], bytes]:
    return picture.size, hashlib.sha256(picture.tobytes()).digest()


def _keep(kept: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return kept[key]
