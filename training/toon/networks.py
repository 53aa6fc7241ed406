"""The denoiser: a UNet with SDXL's conditioning, its ControlNet and its IP-Adapter.

The classes are those of diffusers, so that the production engine loads what is trained here.
Knows the shapes of the networks; how they are trained is elsewhere.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from understudy.engines.toon_autoencoder import ToonAutoencoder

CANVAS = 128
"""Side of the square canvas in pixels, as pipelines count it and skeletons are drawn; other shapes
have about its area."""
PATCH = 8
"""Pixels of the canvas, each way, to one latent pixel."""
PICTURE_PATCH = 16
"""Pixels of a picture, each way, that the autoencoder encodes as one latent pixel: pictures have twice
the canvas's pixels, because skeletons tell enough at half of it and cost a quarter."""
LATENT_CHANNELS = 32
CONDITION_WIDTH = 192
"""Channels of text states and of image tokens, and so of the cross-attention."""
CHANNELS = (128, 192)
"""Channels at the grid of 16 x 16 and at that of 8 x 8."""
HEAD_CHANNELS = 32
SKELETON_CHANNELS = (16, 32, 32, 64)
"""Channels of the ControlNet's first layers; each but the first halves the skeleton picture."""
IP_ADAPTER = Path("ip_adapter") / "ip_adapter.safetensors"
"""Where in a checkpoint the IP-Adapter lies."""
LATENTS = "latents.txt"
"""The file beside a denoiser's networks that tells which autoencoder's latents it draws."""
TOLD_SIZE = (CANVAS, CANVAS)
"""The size conditioning of every picture."""

SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "sample",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
"""SDXL's noise schedule, brought to no signal at its end (Lin et al., arXiv 2305.08891); the UNet
predicts the picture itself, which suits pictures that their conditions nearly determine."""


def build_unet(
    channels: tuple[int, ...] = CHANNELS, condition_width: int = CONDITION_WIDTH
) -> UNet2DConditionModel:
    """A UNet from scratch, cross-attending at every level, without its IP-Adapter.

    Between them it only convolves: that spares what the other networks' weights need of the room.
    """
    levels = len(channels)
    return UNet2DConditionModel(
        sample_size=CANVAS // PATCH,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2D",
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=condition_width,
        attention_head_dim=tuple(width // HEAD_CHANNELS for width in channels),
        transformer_layers_per_block=1,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=6 * 32 + condition_width,
        use_linear_projection=True,
        norm_num_groups=16,
    )


def build_controlnet(
    channels: tuple[int, ...] = CHANNELS, condition_width: int = CONDITION_WIDTH
) -> ControlNetModel:
    """A ControlNet from scratch, without attention: where a limb is does not depend on the prompt.

    Its outputs do not begin at zero as they do beside a trained UNet (Zhang et al., arXiv
    2302.05543): both learn together from the first step.
    """
    levels = len(channels)
    controlnet = ControlNetModel(
        in_channels=LATENT_CHANNELS,
        conditioning_channels=3,
        down_block_types=("DownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=condition_width,
        attention_head_dim=tuple(width // HEAD_CHANNELS for width in channels),
        norm_num_groups=16,
        conditioning_embedding_out_channels=SKELETON_CHANNELS,
    )
    outputs = [
        controlnet.controlnet_cond_embedding.conv_out,
        controlnet.controlnet_mid_block,
        *controlnet.controlnet_down_blocks,
    ]
    for convolution in outputs:
        nn.init.normal_(convolution.weight, std=0.5 / convolution.weight[0].numel() ** 0.5)
        nn.init.zeros_(convolution.bias)
    return controlnet


def add_ip_adapter(
    unet: UNet2DConditionModel, weights: dict[str, dict[str, torch.Tensor]] | None = None
) -> None:
    """Give a UNet its IP-Adapter: of `weights` as `load_ip_adapter_weights` gives them, or fresh.

    It is the "full" kind (Ye et al., arXiv 2308.06721): every token of the image encoder goes
    through a small network and is attended to beside the text.
    """
    unet._load_ip_adapter_weights([weights or _fresh_ip_adapter(unet)], low_cpu_mem_usage=False)


def save_ip_adapter(unet: UNet2DConditionModel, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the IP-Adapter of a UNet in the format that diffusers' `load_ip_adapter` reads."""
    tensors = {}
    projection = unet.encoder_hid_proj.image_projection_layers[0].state_dict()
    for name, tensor in projection.items():
        for ours, theirs in _PROJECTION_NAMES.items():
            if name.startswith(ours):
                tensors["image_proj." + name.replace(ours, theirs)] = tensor
    for number, (_, processor) in _cross_attentions(unet):
        tensors[f"ip_adapter.{number}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        tensors[f"ip_adapter.{number}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: _plain(tensor, dtype) for name, tensor in tensors.items()}, path)


def load_ip_adapter_weights(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that `save_ip_adapter` wrote, as `add_ip_adapter` takes them."""
    weights: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(path).items():
        group, key = name.split(".", 1)
        weights[group][key] = tensor
    return weights


def strip_ip_adapter(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy of a UNet without its IP-Adapter: what is saved as `unet`."""
    config = dict(unet.config) | {"encoder_hid_dim_type": None, "encoder_hid_dim": None}
    plain = UNet2DConditionModel.from_config(config)
    own = {
        name: tensor
        for name, tensor in unet.state_dict().items()
        if not name.startswith("encoder_hid_proj") and "_ip." not in name
    }
    plain.load_state_dict(own)
    return plain


def make_scheduler() -> EulerDiscreteScheduler:
    """The scheduler that the checkpoint is used with."""
    return EulerDiscreteScheduler(**SCHEDULE)


_PROJECTION_NAMES = {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2", "norm": "proj.3"}


def _cross_attentions(unet: UNet2DConditionModel) -> list[tuple[int, tuple[str, Any]]]:
    """The cross-attentions' names and processors under the odd numbers that the format gives them."""
    cross = [item for item in unet.attn_processors.items() if item[0].endswith("attn2.processor")]
    return [(2 * index + 1, item) for index, item in enumerate(cross)]


def _fresh_ip_adapter(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    width = unet.config.cross_attention_dim
    image_proj = {
        "proj.0.weight": torch.randn(width, width) / width**0.5,
        "proj.0.bias": torch.zeros(width),
        "proj.2.weight": torch.randn(width, width) / width**0.5,
        "proj.2.bias": torch.zeros(width),
        "proj.3.weight": torch.ones(width),
        "proj.3.bias": torch.zeros(width),
    }
    layers = {}
    for number, (name, _) in _cross_attentions(unet):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        inner = attention.to_k.weight.shape[0]
        layers[f"{number}.to_k_ip.weight"] = torch.randn(inner, width) / width**0.5
        layers[f"{number}.to_v_ip.weight"] = torch.randn(inner, width) / width**0.5 * 0.5
    return {"image_proj": image_proj, "ip_adapter": layers}


def _plain(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to("cpu", dtype).contiguous()


def digest_latents(autoencoder: ToonAutoencoder) -> str:
    """What tells an autoencoder's latents from those of another: a digest of all but its decoder."""
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        if not name.startswith("decoder."):
            digest.update(name.encode() + tensor.half().cpu().numpy().tobytes())
    return digest.hexdigest()
