"""Where an SDXL-shaped checkpoint lies, what is particular about it, and how it is loaded.

Two checkpoints are known by name: the embedded one (`toon`) and real SDXL weights (`sdxl`).
Both end as the same diffusers pipeline; all that differs stands in a `Profile`.
This file knows nothing of requests or of drawing.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionXLControlNetPipeline
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
)

from ..pose.drawing import StickStyle
from ..settings import Settings
from . import EngineError
from .detector import PoseDetector
from .loading import loading, locate, locate_lora
from .lora import fuse_lora
from .presets import SdxlPreset, choose_sdxl
from .schedulers import make_scheduler
from .toon_autoencoder import ToonAutoencoder
from .toon_detector import ToonDetector, ToonPoseModel

logger = logging.getLogger(__name__)

DETECTOR_FOLDER = "pose_detector"
"""Where the embedded checkpoint has its detector, beside the folders of a pipeline."""
LIKENESS_FILE = "likeness.json"
"""Where it has the cosine of different characters, which its training measured."""
ENCODERS = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "image_encoder": CLIPVisionModelWithProjection,
}
"""The parts of a pipeline that are transformers'."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is particular about a checkpoint.

    `canvas_pixels` is the area that it draws best, in square pixels, and both sides of its
    canvas are multiples of `canvas_multiple`. `stick_style` is the look of the skeletons that its
    ControlNet was trained on.
    `told_size` is the size that the UNet is always told it draws at (the canvas's own when None).
    `empty_skeleton` says that it learned "no pose" as a black skeleton picture; otherwise the
    ControlNet is left out. `usual_pose` is the named pose of who is asked for without one, None where the
    model draws well without. `likeness_floor` is the cosine at which likeness is 0.
    `ip_scale` is the strength of the reference when none is asked for, and an adapter for its face has
    `face_share` of the reference's. `preset` tells which parameters act.
    `small_networks` says that on a CPU their forwards are replayed (`replay.py`), and
    `picture_bytes` is an upper bound for what one more picture of a batch takes on a GPU.
    """

    name: str
    version: str
    preset: SdxlPreset
    canvas_pixels: int
    canvas_multiple: int
    stick_style: StickStyle
    ip_scale: float
    pose_scale: float
    told_size: tuple[int, int] | None
    empty_skeleton: bool
    usual_pose: str | None
    half_precision: bool
    likeness_floor: float
    small_networks: bool
    picture_bytes: int
    face_share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The folders of a checkpoint's parts.

    `controlnet` and `vae` are None where `model` holds them itself; `ip_adapter_encoder` is
    None where `model` holds the image encoder. Paths inside `ip_adapter` are relative to it.
    `ip_adapter_face_weights` is a file beside `ip_adapter_weights`, for faces, and `loras` are files with
    the setting that names each and its weight. `detector` is a folder that may have a detector of
    characters as the model draws them.
    """

    profile: Profile
    model: str
    ip_adapter: str
    ip_adapter_subfolder: str
    ip_adapter_weights: str
    ip_adapter_face_weights: str | None = None
    ip_adapter_encoder: str | None = None
    loras: tuple[tuple[str, Path, float], ...] = ()
    controlnet: str | None = None
    vae: str | None = None
    detector: str | None = None


def find_checkpoint(settings: Settings) -> Checkpoint:
    """The checkpoint that the settings name.

    Raises:
        EngineError: weights are not on this machine, the embedded checkpoint's distribution not installed.
    """
    if settings.engine != "toon":
        return _sdxl_checkpoint(settings)
    try:
        import understudy_toon
    except ImportError:
        raise EngineError(
            "The embedded model is not installed; run `pip install ./models/toon` in Understudy's folder.",
            code="engine_load_failed",
        ) from None
    return describe_toon(understudy_toon.checkpoint_path(), understudy_toon.__version__)


def describe_toon(folder: Path, version: str) -> Checkpoint:
    """The checkpoint of a folder that `training/toon` made.

    Raises:
        EngineError: it does not tell its likeness floor.
    """
    with loading("likeness floor"):
        floor = float(json.loads((folder / LIKENESS_FILE).read_text())["floor"])
    place = str(folder)
    return Checkpoint(
        profile=Profile(
            name="toon",
            version=version,
            preset=SdxlPreset(model="toon", idle={}),
            canvas_pixels=128 * 128,
            canvas_multiple=16,
            stick_style=StickStyle.TOON,
            ip_scale=1.0,
            pose_scale=1.0,
            told_size=(128, 128),
            empty_skeleton=True,
            usual_pose="stand",
            half_precision=False,
            likeness_floor=floor,
            small_networks=True,
            picture_bytes=64 * 2**20,
        ),
        model=place,
        ip_adapter=place,
        ip_adapter_subfolder="ip_adapter",
        ip_adapter_weights="ip_adapter.safetensors",
        detector=str(folder / DETECTOR_FOLDER),
    )


def _sdxl_checkpoint(settings: Settings) -> Checkpoint:
    return Checkpoint(
        profile=Profile(
            name="sdxl",
            version=Path(settings.sdxl_model).name,
            preset=choose_sdxl(settings),
            canvas_pixels=1024 * 1024,
            canvas_multiple=64,
            stick_style=StickStyle.XINSIR,
            ip_scale=0.7,
            pose_scale=1.0,
            told_size=None,
            empty_skeleton=False,
            usual_pose=None,
            half_precision=True,
            likeness_floor=0.0,
            small_networks=False,
            picture_bytes=6 * 2**30,
        ),
        model=locate(settings, "sdxl_model", "sdxl"),
        controlnet=locate(settings, "sdxl_controlnet", "sdxl"),
        # Empty in the environment means none.
        vae=locate(settings, "sdxl_vae", "sdxl") if settings.sdxl_vae else None,
        ip_adapter=locate(settings, "sdxl_ip_adapter", "sdxl"),
        ip_adapter_subfolder=settings.sdxl_ip_adapter_subfolder,
        ip_adapter_weights=settings.sdxl_ip_adapter_weights,
        ip_adapter_face_weights=settings.sdxl_ip_adapter_face_weights or None,
        loras=tuple(
            (lora.setting, locate_lora(settings, lora), lora.weight) for lora in settings.all_sdxl_loras
        ),
        ip_adapter_encoder=settings.sdxl_ip_adapter_encoder or None,
    )


def load_pipeline(
    checkpoint: Checkpoint, device: str, place: str | None = None
) -> StableDiffusionXLControlNetPipeline:
    """Load every part of a checkpoint onto a device, in half precision where that is wise there; or for
    that device to another `place`, from which they are taken later.

    Raises:
        EngineError: a part is missing or broken (`engine_load_failed`); the message names the
            setting to look at, the log tells what the library said.
    """
    half = checkpoint.profile.half_precision and torch.device(device).type == "cuda"
    dtype = torch.float16 if half else torch.float32
    parts: dict[str, Any] = {}
    place = place or device
    # Each part goes to its place at once: that a file had not everything is found out there.
    if checkpoint.controlnet is not None:
        with loading("ControlNet", "UNDERSTUDY_SDXL_CONTROLNET"):
            parts["controlnet"] = _load(ControlNetModel, checkpoint.controlnet, dtype).to(place)
    if checkpoint.vae is not None:
        with loading("autoencoder", "UNDERSTUDY_SDXL_VAE"):
            parts["vae"] = _load(AutoencoderKL, checkpoint.vae, dtype).to(place)
    elif _holds_toon_autoencoder(checkpoint.model):
        with loading("autoencoder", "UNDERSTUDY_SDXL_MODEL"):
            # A pipeline cannot load a class by itself that is not diffusers' own.
            vae = ToonAutoencoder.from_pretrained(Path(checkpoint.model) / "vae", dtype=dtype)
            # Convolutions on a CPU take half the time so.
            parts["vae"] = vae.to(memory_format=torch.channels_last)
    adapter = "UNDERSTUDY_SDXL_IP_ADAPTER and its subfolder, weights and encoder"
    if checkpoint.ip_adapter_encoder is not None:
        with loading("image encoder", adapter):
            folder = _find_image_encoder(checkpoint)
            parts["image_encoder"] = _load_encoder("image_encoder", folder, dtype)
    with loading("model", "UNDERSTUDY_SDXL_MODEL"):
        named = StableDiffusionXLControlNetPipeline.load_config(checkpoint.model)
        for name in ENCODERS:
            if name not in parts and named.get(name, (None,))[0] is not None:
                parts[name] = _load_encoder(name, Path(checkpoint.model) / name, dtype)
        pipeline = _load(
            StableDiffusionXLControlNetPipeline, checkpoint.model, dtype, add_watermarker=False, **parts
        )
        preset = checkpoint.profile.preset
        if preset.scheduler is not None:
            pipeline.scheduler = make_scheduler(preset.scheduler, pipeline.scheduler.config)
        pipeline.to(place)
    for setting, file, weight in checkpoint.loras:
        with loading("LoRA", f"UNDERSTUDY_{setting.upper()}", "a LoRA for SDXL, a safetensors file"):
            fuse_lora(pipeline, file, weight)
    with loading("IP-Adapter", adapter):
        weights = filter(None, (checkpoint.ip_adapter_weights, checkpoint.ip_adapter_face_weights))
        pipeline.load_ip_adapter(
            checkpoint.ip_adapter,
            subfolder=checkpoint.ip_adapter_subfolder,
            weight_name=list(weights),
            image_encoder_folder=None,
        )
        if pipeline.image_encoder is None:
            raise FileNotFoundError("there is no image encoder")
        pipeline.to(place)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_detector(checkpoint: Checkpoint) -> PoseDetector | None:
    """The detector that a checkpoint has of characters as its model draws them, on the CPU, where it
    takes a hundredth of a second; None where there is none.

    Raises:
        EngineError: it is broken (`engine_load_failed`).
    """
    if checkpoint.detector is None or not Path(checkpoint.detector).is_dir():
        return None
    with loading("pose detector"):
        network = ToonDetector.from_pretrained(checkpoint.detector, dtype=torch.float32)
        return PoseDetector(ToonPoseModel(network))


def _load(kind: Any, place: str | Path, dtype: torch.dtype, **options: Any) -> Any:
    """Load from a folder, taking the smaller half-precision files where there are any: on every device, for
    they are all that is fetched then.
    """
    options |= {"dtype": dtype, "use_safetensors": True}
    if any(Path(place).rglob("*.fp16.safetensors")):
        try:
            return kind.from_pretrained(place, variant="fp16", **options)
        except (OSError, ValueError):
            logger.info("there are no files of the fp16 variant; loading the full ones")
    return kind.from_pretrained(place, **options)


def _load_encoder(name: str, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load an encoder of texts or pictures whole.

    Raises:
        ValueError: its file has not everything; transformers would make up the rest.
    """
    encoder, told = _load(ENCODERS[name], folder, dtype, output_loading_info=True)
    if told["missing_keys"]:
        raise ValueError(f"the weights of {name} are not whole: {min(told['missing_keys'])} is missing")
    return encoder


def _find_image_encoder(checkpoint: Checkpoint) -> Path:
    """Its folder: as diffusers has it, a name without a slash is one beside the IP-Adapter's weights."""
    place, encoder = Path(checkpoint.ip_adapter), checkpoint.ip_adapter_encoder
    return place / encoder if "/" in encoder else place / checkpoint.ip_adapter_subfolder / encoder


def _holds_toon_autoencoder(model: str) -> bool:
    config = Path(model) / "vae" / "config.json"
    try:
        return json.loads(config.read_text())["_class_name"] == ToonAutoencoder.__name__
    except (OSError, ValueError, KeyError):
        return False
