"""The two encoders of the embedded model: of prompts and of reference pictures.

Both are the classes of transformers that SDXL pipelines load. The denoiser reads the last states
but one of each; `text_embeds` conditions it as a whole, `image_embeds` is a character's identity.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from .networks import CONDITION_WIDTH

PICTURE_SIDE = 192
"""Side of the square picture that the image encoder reads, in pixels."""
PICTURE_PATCH = 16
"""Side of the patch that becomes one token."""
PROMPT_TOKENS = 77
"""Tokens of a prompt, the marks of beginning and end included, as everywhere with CLIP."""

TEXT_FOLDER, TOKENIZER_FOLDER = "text_encoder_2", "tokenizer_2"
IMAGE_FOLDER, PROCESSOR_FOLDER = "image_encoder", "feature_extractor"


def build_text_encoder(
    tokenizer: CLIPTokenizer, *, width: int = CONDITION_WIDTH, layers: int = 3, heads: int = 3
) -> CLIPTextModelWithProjection:
    """A text encoder from scratch for a tokenizer's vocabulary."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=PROMPT_TOKENS,
        projection_dim=width,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config)


def build_image_encoder(
    *,
    width: int = CONDITION_WIDTH,
    layers: int = 4,
    heads: int = 3,
    side: int = PICTURE_SIDE,
    patch: int = PICTURE_PATCH,
) -> CLIPVisionModelWithProjection:
    """An image encoder from scratch."""
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=side,
        patch_size=patch,
        projection_dim=width,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config)


def make_image_processor(side: int = PICTURE_SIDE) -> CLIPImageProcessor:
    """What brings a picture to the image encoder's size and to values from -1 to 1."""
    return CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str], device: torch.device | str = "cpu") -> torch.Tensor:
    """The token ids of texts, (n, 77), as a pipeline makes them."""
    encoded = tokenizer(
        texts, padding="max_length", max_length=PROMPT_TOKENS, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids.to(device)


def encode_texts(
    encoder: CLIPTextModelWithProjection, token_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The states (n, 77, width) that a denoiser attends to, and the pooled embedding (n, width)."""
    encoded = encoder(token_ids, output_hidden_states=True)
    return encoded.hidden_states[-2], encoded.text_embeds


def encode_pictures(
    encoder: CLIPVisionModelWithProjection, pictures: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens (n, 1 + patches, width) that an IP-Adapter reads, the first that of the whole
    picture, and the identity (n, width), of unit length; of pictures (n, 3, 192, 192) in -1..1.
    """
    encoded = encoder(pictures, output_hidden_states=True)
    return encoded.hidden_states[-2], torch.nn.functional.normalize(encoded.image_embeds, dim=-1)


def list_identity_weights(encoder: CLIPVisionModelWithProjection) -> list[nn.Parameter]:
    """The image encoder's weights that the states before its last layer, which the denoiser reads, do
    not need: those that identities alone are made by."""
    parts = (
        encoder.vision_model.encoder.layers[-1],
        encoder.vision_model.post_layernorm,
        encoder.visual_projection,
    )
    return [weight for part in parts for weight in part.parameters()]


def save_text_encoder(encoder: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the text encoder and its tokenizer in half precision, in a pipeline's layout."""
    deepcopy(encoder).half().save_pretrained(folder / TEXT_FOLDER)
    tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)


def save_image_encoder(encoder: CLIPVisionModelWithProjection, folder: Path) -> None:
    """Write the image encoder and its processor in half precision, in a pipeline's layout."""
    deepcopy(encoder).half().save_pretrained(folder / IMAGE_FOLDER)
    make_image_processor(encoder.config.image_size).save_pretrained(folder / PROCESSOR_FOLDER)


def load_text_encoder(folder: Path) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    """The text encoder in full precision, and its tokenizer."""
    encoder = CLIPTextModelWithProjection.from_pretrained(folder / TEXT_FOLDER, dtype=torch.float32)
    return encoder, CLIPTokenizer.from_pretrained(folder / TOKENIZER_FOLDER)


def load_image_encoder(folder: Path) -> CLIPVisionModelWithProjection:
    """The image encoder in full precision."""
    return CLIPVisionModelWithProjection.from_pretrained(folder / IMAGE_FOLDER, dtype=torch.float32)
