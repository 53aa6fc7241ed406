"""A tiny checkpoint of FLUX.2-klein's true layout, built from configs, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen3Config, Qwen3ForCausalLM

from understudy.settings import Settings

from .tiny_language import make_tokenizer

LANGUAGE_WIDTH = 8
LANGUAGE_LAYERS = 28
"""One more than the last that the pipeline reads."""


def write_checkpoint(folder: Path, kind: Literal["distilled", "base"]) -> Settings:
    """Write the model; the settings that name it."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=_make_vae(),
        text_encoder=Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=LANGUAGE_WIDTH,
                intermediate_size=16,
                num_hidden_layers=LANGUAGE_LAYERS,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=4,
            )
        ),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * LANGUAGE_WIDTH,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        is_distilled=kind == "distilled",
    ).save_pretrained(folder / "model")
    return Settings(
        engine="flux2-klein",
        device="cpu",
        flux2_klein_preset=kind,
        flux2_klein_model=str(folder / "model"),
    )


def _make_vae() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
    # What training measures of its latents: fresh ones would tell nothing.
    torch.nn.init.normal_(vae.bn.running_mean, std=0.1)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 1.5)
    return vae
