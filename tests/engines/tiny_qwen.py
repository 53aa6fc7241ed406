"""A tiny checkpoint of Qwen-Image-Edit's true layout, built from configs, with random weights.

Its processor's folder has the files of the real one, a part for films included; a LoRA lies beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageTransformer2DModel,
)
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from understudy.settings import Settings

from .tiny_language import make_tokenizer

LANGUAGE_WIDTH = 16
LORA_RANK = 2


def write_checkpoint(folder: Path) -> Settings:
    """Write the model and the LoRA; the settings that name the model."""
    torch.manual_seed(0)
    model = folder / "model"
    tokenizer = make_tokenizer()
    transformer = _make_transformer()
    transformer.save_pretrained(model / "transformer")
    _make_vae().save_pretrained(model / "vae")
    _make_language_model(tokenizer).save_pretrained(model / "text_encoder")
    tokenizer.save_pretrained(model / "tokenizer")
    _make_scheduler().save_pretrained(model / "scheduler")
    tokenizer.save_pretrained(model / "processor")
    _write_json(
        model / "processor" / "preprocessor_config.json", _describe_pictures("Qwen2VLImageProcessorFast")
    )
    _write_json(
        model / "processor" / "video_preprocessor_config.json",
        _describe_pictures(None) | {"video_processor_type": "Qwen2VLVideoProcessor"},
    )
    _write_json(
        model / "model_index.json",
        {
            "_class_name": "QwenImageEditPlusPipeline",
            "_diffusers_version": "0.36.0",
            "processor": ["transformers", "Qwen2VLProcessor"],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
            "tokenizer": ["transformers", "Qwen2Tokenizer"],
            "transformer": ["diffusers", "QwenImageTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKLQwenImage"],
        },
    )
    _write_lora(folder / "lora", transformer)
    return Settings(
        engine="qwen-edit",
        device="cpu",
        qwen_edit_model=str(model),
        qwen_edit_lora_weights="lightning.safetensors",
    )


def _make_transformer() -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=LANGUAGE_WIDTH,
        axes_dims_rope=(4, 6, 6),
        zero_cond_t=True,
    )


def _make_vae() -> AutoencoderKLQwenImage:
    return AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def _make_language_model(tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    marks = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}|>")
        for name, mark in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "hidden_size": LANGUAGE_WIDTH,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "vocab_size": len(tokenizer),
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
            },
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": LANGUAGE_WIDTH,
                "fullatt_block_indexes": [1],
            },
            **marks,
        )
    )


def _make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=0.9,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )


def _describe_pictures(kind: str | None) -> dict:
    return {
        "image_processor_type": kind,
        "processor_class": "Qwen2_5_VLProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"shortest_edge": 3136, "longest_edge": 12845056},
        "merge_size": 2,
        "patch_size": 14,
        "temporal_patch_size": 2,
    }


def _write_lora(folder: Path, transformer: QwenImageTransformer2DModel) -> None:
    """In the Lightning LoRAs' own format, which is not diffusers'."""
    folder.mkdir()
    weights = {}
    for name, layer in transformer.named_modules():
        if name.endswith(("attn.to_q", "attn.to_out.0")):
            weights[f"{name}.lora_down.weight"] = torch.randn(LORA_RANK, layer.in_features)
            weights[f"{name}.lora_up.weight"] = torch.randn(layer.out_features, LORA_RANK)
            weights[f"{name}.alpha"] = torch.tensor(float(LORA_RANK))
    save_file(weights, folder / "lightning.safetensors")


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))
