"""The configurations of the networks that the GPU benchmark makes: the real ones, and tiny ones like them.

The real ones are those of stable-diffusion-xl-base-1.0, controlnet-openpose-sdxl-1.0, IP-Adapter Plus with
its image encoder ViT-H, FLUX.2-klein-4B and Qwen-Image-Edit-2511. Imports no framework.
"""

from __future__ import annotations

from typing import Any

Sizes = dict[str, dict[str, Any]]


def _sdxl(
    *,
    widths: tuple[int, ...],
    layers: int,
    transformer_layers: tuple[int, ...],
    heads: tuple[int, ...],
    text: tuple[dict[str, Any], dict[str, Any]],
    image: dict[str, Any],
    vae_widths: tuple[int, ...],
    adapter: dict[str, int],
    vae: dict[str, Any],
) -> Sizes:
    crossing = text[0]["hidden_size"] + text[1]["hidden_size"]
    time = 256
    shared = {
        "block_out_channels": widths,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "layers_per_block": layers,
        "transformer_layers_per_block": transformer_layers,
        "attention_head_dim": heads,
        "cross_attention_dim": crossing,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": time,
        "projection_class_embeddings_input_dim": 6 * time + text[1]["projection_dim"],
    }
    return {
        "unet": shared
        | {
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "sample_size": 128,
        },
        "controlnet": shared,
        "vae": {
            "block_out_channels": vae_widths,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "scaling_factor": 0.13025,
            "force_upcast": False,
            **vae,
        },
        "text_encoder": text[0],
        "text_encoder_2": text[1],
        "image_encoder": image,
        "adapter": adapter | {"crossing": crossing, "image": image["hidden_size"]},
    }


SDXL = _sdxl(
    widths=(320, 640, 1280),
    layers=2,
    transformer_layers=(1, 2, 10),
    heads=(5, 10, 20),
    text=(
        {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
        },
        {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "projection_dim": 1280,
            "hidden_act": "gelu",
        },
    ),
    image={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "projection_dim": 1024,
        "hidden_act": "gelu",
    },
    vae_widths=(128, 256, 512, 512),
    vae={"layers_per_block": 2, "sample_size": 1024},
    adapter={"width": 1280, "heads": 20, "layers": 4, "queries": 16},
)

_TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 32,
}
TINY_SDXL = _sdxl(
    widths=(32, 64, 64),
    layers=1,
    transformer_layers=(1, 1, 2),
    heads=(2, 4, 4),
    text=(_TINY_TEXT, _TINY_TEXT),
    image={
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 16,
    },
    vae_widths=(8, 8, 8, 8),
    vae={"layers_per_block": 1, "norm_num_groups": 4},
    adapter={"width": 64, "heads": 1, "layers": 4, "queries": 16},
)

KLEIN: Sizes = {
    "transformer": {
        "num_layers": 5,
        "num_single_layers": 20,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3 * 2560,
        "guidance_embeds": False,
    },
    "text_encoder": {
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "vae": {},
}
TINY_KLEIN: Sizes = {
    "transformer": {
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 3 * 8,
        "axes_dims_rope": (4, 4, 4, 4),
        "guidance_embeds": False,
    },
    "text_encoder": {
        "vocab_size": 300,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 28,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
    },
    "vae": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
}

QWEN: Sizes = {
    "transformer": {"zero_cond_t": True},
    "text": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "vae": {},
}
TINY_QWEN: Sizes = {
    "transformer": {
        "num_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (4, 6, 6),
        "zero_cond_t": True,
    },
    "text": {
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    },
    "vision": {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [1],
    },
    "vae": {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
}
