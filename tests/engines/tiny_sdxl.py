"""A tiny checkpoint of SDXL's true layout, built from configs, with random weights.

Four folders as the production settings name them: the model (two text encoders, two
tokenizers), a ControlNet, two IP-Adapters in the "plus" format, one of them for faces, with their
image encoder in a subfolder, and an autoencoder. LoRAs for it are files of their own.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from understudy.settings import Settings

TEXT_WIDTH = 32
CROSS_WIDTH = 2 * TEXT_WIDTH
IMAGE_WIDTH = 32
RESAMPLER_WIDTH = 64


def write_checkpoint(folder: Path) -> Settings:
    """Write the four folders; the settings that name them."""
    torch.manual_seed(0)
    unet = _make_unet()
    StableDiffusionXLPipeline(
        vae=_make_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=_make_tokenizer(folder / "words", pad="<|endoftext|>"),
        tokenizer_2=_make_tokenizer(folder / "words_2", pad="!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    ).save_pretrained(folder / "model")
    controlnet = ControlNetModel.from_unet(unet)
    # A fresh ControlNet ends in zeros: it would change nothing.
    for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight, std=0.1)
    torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.1)
    controlnet.save_pretrained(folder / "controlnet")
    _make_vae().save_pretrained(folder / "vae")
    _write_ip_adapter(folder / "ip_adapter", unet)
    return Settings(
        engine="sdxl",
        device="cpu",
        sdxl_model=str(folder / "model"),
        sdxl_controlnet=str(folder / "controlnet"),
        sdxl_vae=str(folder / "vae"),
        sdxl_ip_adapter=str(folder / "ip_adapter"),
    )


def write_lora(file: Path, settings: Settings, part: str = "unet", *, trainers_names: bool = False) -> None:
    """Write a LoRA for the checkpoint's UNet or its first text encoder, by the names that diffusers gives
    its tensors or by those that sd-scripts, the usual trainer, does."""
    torch.manual_seed(1)
    kind = UNet2DConditionModel if part == "unet" else CLIPTextModel
    network = kind.from_pretrained(settings.sdxl_model, subfolder=part)
    targets = ["to_q", "to_v"] if part == "unet" else ["q_proj", "v_proj"]
    config = LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    tensors = get_peft_model_state_dict(get_peft_model(network, config))
    tensors = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    if not trainers_names:
        layers = {"unet_lora_layers" if part == "unet" else "text_encoder_lora_layers": tensors}
        StableDiffusionXLPipeline.save_lora_weights(file.parent, weight_name=file.name, **layers)
        return
    named = {}
    for name, tensor in tensors.items():
        layer, _, side = name.removesuffix(".weight").rpartition(".")
        layer = "lora_unet_" + layer.replace(".", "_")
        named[f"{layer}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = tensor.contiguous()
        named[f"{layer}.alpha"] = torch.tensor(2.0)
    save_file(named, file)


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        bos_token_id=0,
        eos_token_id=1,
    )


def _vocabulary() -> dict[str, int]:
    letters = string.ascii_lowercase + string.digits + ",.!"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return {word: number for number, word in enumerate(words)}


def _make_tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """A tokenizer out of the files that SDXL's repositories hold."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    marks = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))
    config = {**marks, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def _make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=CROSS_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
    )


def _make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.13025,
    )


def _write_ip_adapter(folder: Path, unet: UNet2DConditionModel) -> None:
    """The original project's layout: `sdxl_models/<weights>` beside `models/image_encoder/`."""
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            intermediate_size=37,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
            projection_dim=16,
        )
    )
    encoder.save_pretrained(folder / "models" / "image_encoder")
    (folder / "sdxl_models").mkdir()
    for name in ("ip-adapter-plus_sdxl_vit-h", "ip-adapter-plus-face_sdxl_vit-h"):
        weights = {f"image_proj.{name}": tensor for name, tensor in _make_resampler().items()}
        weights |= {f"ip_adapter.{name}": tensor for name, tensor in _make_attention(unet).items()}
        save_file(weights, folder / "sdxl_models" / f"{name}.safetensors")


def _make_resampler() -> dict[str, torch.Tensor]:
    """A perceiver resampler of four layers and 16 queries, by the names of the original files."""

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape) / shape[-1] ** 0.5

    width = RESAMPLER_WIDTH
    weights = {
        "latents": noise(1, 16, width),
        "proj_in.weight": noise(width, IMAGE_WIDTH),
        "proj_in.bias": torch.zeros(width),
        "proj_out.weight": noise(CROSS_WIDTH, width),
        "proj_out.bias": torch.zeros(CROSS_WIDTH),
        "norm_out.weight": torch.ones(CROSS_WIDTH),
        "norm_out.bias": torch.zeros(CROSS_WIDTH),
    }
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights[f"layers.{layer}.{norm}.weight"] = torch.ones(width)
            weights[f"layers.{layer}.{norm}.bias"] = torch.zeros(width)
        weights[f"layers.{layer}.0.to_q.weight"] = noise(64, width)
        weights[f"layers.{layer}.0.to_kv.weight"] = noise(128, width)
        weights[f"layers.{layer}.0.to_out.weight"] = noise(width, 64)
        weights[f"layers.{layer}.1.1.weight"] = noise(4 * width, width)
        weights[f"layers.{layer}.1.3.weight"] = noise(width, 4 * width)
    return weights


def _make_attention(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """Keys and values for each cross attention; the files count self attentions too."""
    weights = {}
    state = unet.state_dict()
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            width = state[name.removesuffix("processor") + "to_k.weight"].shape[0]
            weights[f"{number}.to_k_ip.weight"] = torch.randn(width, CROSS_WIDTH) / 4
            weights[f"{number}.to_v_ip.weight"] = torch.randn(width, CROSS_WIDTH) / 4
    return weights
