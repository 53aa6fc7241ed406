"""Networks of given sizes with random weights, made on the device: how fast they are does not depend on
what they have learned.

Nothing is downloaded. The weights are drawn as for a training's first step, so that no number is zero and
none runs away.
"""

from __future__ import annotations

import json
import string
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from true_sizes import KLEIN, QWEN, SDXL, Sizes

from understudy.engines.qwen_edit import PictureProcessor

# The tests have a tokenizer of Qwen's kind too.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.engines.tiny_language import make_tokenizer

WEIGHTS = "ip-adapter-plus_sdxl_vit-h.safetensors"
QWEN_PICTURES = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
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
"""How Qwen2.5-VL reads pictures."""


@contextmanager
def weights_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """New networks are made there, with numbers of that type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def write_sdxl(folder: Path, sizes: Sizes, device: str, dtype: torch.dtype) -> dict[str, str]:
    """Write the folders that the SDXL engine loads from; the settings that name them."""
    if not (folder / "done").exists():
        with torch.no_grad():
            _write_sdxl(folder, sizes, device, dtype)
        (folder / "done").touch()
    return {
        "sdxl_model": str(folder / "model"),
        "sdxl_controlnet": str(folder / "controlnet"),
        "sdxl_ip_adapter": str(folder / "ip_adapter"),
        "sdxl_ip_adapter_weights": WEIGHTS,
        "sdxl_vae": str(folder / "vae"),
    }


def make_klein(sizes: Sizes, device: str, dtype: torch.dtype) -> Flux2KleinPipeline:
    """A pipeline of distilled FLUX.2-klein."""
    with weights_on(device, dtype):
        parts = _make_klein_networks(sizes)
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        tokenizer=make_tokenizer(),
        is_distilled=True,
        **_ready(parts),
    )


def make_qwen(sizes: Sizes, device: str, dtype: torch.dtype) -> QwenImageEditPlusPipeline:
    """A pipeline of Qwen-Image-Edit."""
    tokenizer = make_tokenizer()
    marks = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}|>")
        for name, mark in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    with weights_on(device, dtype):
        parts = _make_qwen_networks(sizes, marks)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(QWEN_PICTURES))
        processor = PictureProcessor.from_pretrained(folder)
    return QwenImageEditPlusPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        tokenizer=tokenizer,
        processor=processor,
        **_ready(parts),
    )


def count_parameters(engine: str) -> tuple[int, int, int, int]:
    """Parameters of an engine's true networks: its denoiser, its encoders, its autoencoder, and the largest
    single layer. On the device `meta` nothing is computed."""
    adapters = 0
    if engine == "sdxl":
        networks = _make_sdxl_networks(SDXL)
        attention = dict(_make_attention(networks["unet"], SDXL["adapter"]["crossing"]))
        resampler = _make_resampler(**SDXL["adapter"])
        # One for the whole reference, one for its face.
        adapters = 2 * sum(tensor.numel() for tensor in (*attention.values(), *resampler.values()))
    elif engine == "qwen-edit":
        networks = _make_qwen_networks(QWEN, {})
    else:
        networks = _make_klein_networks(KLEIN)
    counts = {name: [weight.numel() for weight in part.parameters()] for name, part in networks.items()}
    encoders = sum(sum(count) for name, count in counts.items() if "encoder" in name)
    autoencoder = sum(counts["vae"])
    everything = sum(sum(count) for count in counts.values())
    largest = max(max(count) for count in counts.values())
    return everything - encoders - autoencoder + adapters, encoders, autoencoder, largest


def _make_klein_networks(sizes: Sizes) -> dict[str, torch.nn.Module]:
    return {
        "vae": AutoencoderKLFlux2(**sizes["vae"]),
        "text_encoder": Qwen3ForCausalLM(Qwen3Config(**sizes["text_encoder"])),
        "transformer": Flux2Transformer2DModel(**sizes["transformer"]),
    }


def _make_qwen_networks(sizes: Sizes, marks: dict[str, int]) -> dict[str, torch.nn.Module]:
    config = Qwen2_5_VLConfig(text_config=sizes["text"], vision_config=sizes["vision"], **marks)
    return {
        "vae": AutoencoderKLQwenImage(**sizes["vae"]),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config),
        "transformer": QwenImageTransformer2DModel(**sizes["transformer"]),
    }


def _make_sdxl_networks(sizes: Sizes) -> dict[str, torch.nn.Module]:
    return {
        "unet": UNet2DConditionModel(**sizes["unet"]),
        "controlnet": ControlNetModel(**sizes["controlnet"]),
        "vae": AutoencoderKL(**sizes["vae"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**sizes["text_encoder"])),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**sizes["text_encoder_2"])),
        "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes["image_encoder"])),
    }


def _ready(parts: dict[str, torch.nn.Module]) -> dict[str, torch.nn.Module]:
    return {name: part.eval().requires_grad_(False) for name, part in parts.items()}


def _write_sdxl(folder: Path, sizes: Sizes, device: str, dtype: torch.dtype) -> None:
    with weights_on(device, dtype):
        networks = _make_sdxl_networks(sizes)
        unet, controlnet, vae = (networks[name] for name in ("unet", "controlnet", "vae"))
        resampler = _make_resampler(**sizes["adapter"])
        attention = dict(_make_attention(unet, sizes["adapter"]["crossing"]))
        # A fresh ControlNet ends in zeros.
        for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.02)
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=networks["text_encoder"],
        text_encoder_2=networks["text_encoder_2"],
        tokenizer=_make_tokenizer(folder / "words", "<|endoftext|>"),
        tokenizer_2=_make_tokenizer(folder / "words_2", "!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    ).save_pretrained(folder / "model")
    vae.save_pretrained(folder / "vae")
    controlnet.save_pretrained(folder / "controlnet")
    networks["image_encoder"].save_pretrained(folder / "ip_adapter" / "models" / "image_encoder")
    weights = {f"image_proj.{name}": tensor for name, tensor in resampler.items()}
    weights |= {f"ip_adapter.{name}": tensor for name, tensor in attention.items()}
    (folder / "ip_adapter" / "sdxl_models").mkdir(parents=True)
    save_file(weights, folder / "ip_adapter" / "sdxl_models" / WEIGHTS)


def _make_tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """A tokenizer of CLIP's kind in which each letter is a token."""
    folder.mkdir(parents=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    marks = ["<|startoftext|>", "<|endoftext|>"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *marks]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {
        "bos_token": marks[0],
        "eos_token": marks[1],
        "unk_token": marks[1],
        "pad_token": pad,
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) / shape[-1] ** 0.5


def _make_resampler(
    width: int, heads: int, layers: int, queries: int, crossing: int, image: int
) -> dict[str, torch.Tensor]:
    """IP-Adapter Plus's perceiver resampler, by the names of the original files."""
    inner = 64 * heads
    weights = {
        "latents": _noise(1, queries, width),
        "proj_in.weight": _noise(width, image),
        "proj_in.bias": torch.zeros(width),
        "proj_out.weight": _noise(crossing, width),
        "proj_out.bias": torch.zeros(crossing),
        "norm_out.weight": torch.ones(crossing),
        "norm_out.bias": torch.zeros(crossing),
    }
    for layer in range(layers):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights[f"layers.{layer}.{norm}.weight"] = torch.ones(width)
            weights[f"layers.{layer}.{norm}.bias"] = torch.zeros(width)
        weights[f"layers.{layer}.0.to_q.weight"] = _noise(inner, width)
        weights[f"layers.{layer}.0.to_kv.weight"] = _noise(2 * inner, width)
        weights[f"layers.{layer}.0.to_out.weight"] = _noise(width, inner)
        weights[f"layers.{layer}.1.1.weight"] = _noise(4 * width, width)
        weights[f"layers.{layer}.1.3.weight"] = _noise(width, 4 * width)
    return weights


def _make_attention(unet: UNet2DConditionModel, crossing: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys and values for each cross attention; the files count self attentions too."""
    state = unet.state_dict()
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            width = state[name.removesuffix("processor") + "to_k.weight"].shape[0]
            yield f"{number}.to_k_ip.weight", _noise(width, crossing)
            yield f"{number}.to_v_ip.weight", _noise(width, crossing)
