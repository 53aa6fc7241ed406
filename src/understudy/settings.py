"""The environment, read once: every `UNDERSTUDY_*` setting of the service."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# As `to_environment` tells a child of None.
_EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)

_SDXL_PRESET_LORAS = {
    "hyper": "ByteDance/Hyper-SD/Hyper-SDXL-8steps-CFG-lora.safetensors",
    "lightning": "ByteDance/SDXL-Lightning/sdxl_lightning_8step_lora.safetensors",
}

EngineName = Literal["toon", "sdxl", "qwen-edit", "flux2-klein", "null"]


class Lora(NamedTuple):
    """A LoRA that a setting names: a place (a file, a folder or a hub id), the file in it where one is
    named, and the weight with which it acts."""

    setting: str
    place: str
    file: str | None
    weight: float


class Settings(BaseSettings):
    """Settings of the service; each is read from `UNDERSTUDY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="UNDERSTUDY_", extra="ignore", frozen=True)

    data_dir: Path = Field(default=Path("data"), description="Folder of the database and the pictures.")
    public_url: str | None = Field(
        default=None, description="What URLs in answers begin with; else the request's own host."
    )

    engine: EngineName = Field(default="toon", description="toon, sdxl, qwen-edit, flux2-klein or null.")
    engines: str = Field(
        default="", description="Comma-separated further engines, each served under its own slug."
    )
    resident_engines: int = Field(
        default=1, ge=1, description="Engines that a worker keeps loaded; the least recently used leaves."
    )
    accepted_licences: str = Field(
        default="",
        description="Comma-separated licences, or hub ids of weights, whose restrictions are accepted.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    devices: int = Field(default=1, ge=1, description="Worker processes, one for each device.")
    memory_profile: Literal["auto", "full", "quantised", "offload"] = Field(
        default="auto", description="How weights are laid out on a GPU; auto: by the memory it has free."
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="Compile the networks; auto: on a GPU that holds them whole."
    )
    sdxl_model: str = Field(
        default="stabilityai/stable-diffusion-xl-base-1.0",
        description="Local folder or hub id of an SDXL checkpoint in the diffusers layout.",
    )
    sdxl_revision: str | None = Field(
        default=None,
        description="Commit, tag or branch of a hub id; else the pinned commit, or main as fetched.",
    )
    sdxl_controlnet: str = Field(
        default="xinsir/controlnet-openpose-sdxl-1.0",
        description="Local folder or hub id of an OpenPose ControlNet for SDXL.",
    )
    sdxl_controlnet_revision: str | None = None
    sdxl_ip_adapter: str = Field(
        default="h94/IP-Adapter", description="Local folder or hub id that holds the IP-Adapter."
    )
    sdxl_ip_adapter_revision: str | None = None
    sdxl_ip_adapter_subfolder: str = "sdxl_models"
    sdxl_ip_adapter_weights: str = "ip-adapter-plus_sdxl_vit-h.safetensors"
    sdxl_ip_adapter_encoder: str | None = "models/image_encoder"
    sdxl_ip_adapter_face_weights: str | None = Field(
        default="ip-adapter-plus-face_sdxl_vit-h.safetensors",
        description="Weights beside them for the reference's face, where one is found; empty for none.",
    )
    sdxl_vae: str | None = "madebyollin/sdxl-vae-fp16-fix"
    sdxl_preset: Literal["quality", "hyper", "lightning"] = Field(
        default="quality",
        description="quality, hyper (8 steps with guidance) or lightning (8 steps without).",
    )
    sdxl_preset_lora: str | None = Field(
        default=None,
        description="LoRA of the preset hyper or lightning from another place, as in sdxl_loras.",
    )
    sdxl_loras: str = Field(
        default="",
        description="Comma-separated LoRAs: a file, a folder, a hub id or hub id/file; @0.8 is a weight.",
    )
    sdxl_face_pass: bool = Field(
        default=False, description="Draw faces that are small anew, larger; of toon and sdxl."
    )
    sdxl_vae_revision: str | None = None
    qwen_edit_model: str = Field(
        default="Qwen/Qwen-Image-Edit-2511",
        description="Local folder or hub id of a Qwen-Image-Edit checkpoint in the diffusers layout.",
    )
    qwen_edit_revision: str | None = Field(
        default=None,
        description="Commit, tag or branch of a hub id; else the pinned commit, or main as fetched.",
    )
    qwen_edit_lora: str | None = Field(
        default=None,
        description="Local folder or hub id of a Lightning LoRA: a few steps, without guidance.",
    )
    qwen_edit_lora_weights: str = "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors"
    qwen_edit_lora_revision: str | None = None
    qwen_edit_lora_steps: int = Field(
        default=4, ge=1, le=70, description="Steps that the LoRA was made for; more are not drawn."
    )
    flux2_klein_preset: Literal["distilled", "base"] = Field(
        default="distilled", description="distilled (four steps, no guidance) or base."
    )
    flux2_klein_model: str | None = Field(
        default=None,
        description="Local folder or hub id of a FLUX.2-klein checkpoint; else the preset's of 4B.",
    )
    flux2_klein_revision: str | None = Field(
        default=None,
        description="Commit, tag or branch of a hub id; else the pinned commit, or main as fetched.",
    )

    pose_detector: str = Field(
        default="Tau-J/RTMPose",
        description="Local folder or hub id that holds the ONNX models of the pose detector.",
    )
    pose_detector_revision: str | None = None
    pose_person_model: str = Field(
        default="rtmposev1/onnx_sdk/yolox_m_8xb8-300e_humanart-c2c7a14a.zip",
        description="The file in it that finds people: YOLOX, an .onnx or a .zip with one.",
    )
    pose_model: str = Field(
        default="rtmw/onnx_sdk/rtmw-dw-x-l_simcc-cocktail14_270e-256x192_20231122.zip",
        description="The file that tells how each stands: RTMW or DWPose of 133 points, RTMPose of 17.",
    )
    pose_least_confidence: float = Field(
        default=0.3, ge=0, description="Points with a lower score are hidden; 2 suits RTMW of 384x288."
    )

    fetch_allowed_hosts: str = Field(
        default="",
        description="Comma-separated host or host:port that may be fetched though private.",
    )
    fetch_timeout_seconds: float = Field(default=20.0, gt=0)
    max_picture_bytes: int = Field(default=20_000_000, gt=0)
    max_picture_pixels: int = Field(default=40_000_000, gt=0)
    max_body_bytes: int = Field(default=64_000_000, gt=0)
    decoder_memory_bytes: int = Field(default=1_500_000_000, gt=0)

    block_sexual: bool = Field(default=False, description="Refuse prompts for sexual content of any kind.")
    block_violence: bool = Field(default=False, description="Refuse prompts for graphic violence.")
    block_hate: bool = Field(default=False, description="Refuse prompts for hateful symbols.")
    block_terms: str = Field(
        default="",
        description="Comma-separated words, phrases, beginnings (gun*) and pairs (child + gun) to refuse.",
    )
    block_pictures: bool = Field(
        default=False, description="Judge given and drawn pictures by the classifier; no previews then."
    )
    classifier_model: str = Field(
        default="Falconsai/nsfw_image_detection",
        description="Local folder or hub id of an image classifier that transformers loads.",
    )
    classifier_revision: str | None = None
    classifier_labels: str = Field(
        default="nsfw", description="Comma-separated labels of the classifier that are blocked."
    )
    classifier_threshold: float = Field(
        default=0.5, gt=0, le=1, description="Their probability from which on a picture is blocked."
    )

    webhook_timeout_seconds: float = Field(
        default=15, gt=0, description="Limit for one attempt, redirects included."
    )
    webhook_retry_seconds: float = Field(
        default=5, gt=0, description="Wait before the second attempt; it doubles with each, for a day."
    )

    result_ttl_seconds: float = Field(default=3600, gt=0)
    history_ttl_seconds: float = Field(default=30 * 86400, gt=0)
    file_ttl_seconds: float = Field(default=604800, gt=0)
    sync_deadline_seconds: float = Field(default=300, gt=0)
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error; a line for each request at info."
    )
    job_deadline_seconds: float = Field(
        default=86400, gt=0, description="A job that has not started by then ends FAILED (expired)."
    )
    queue_limit: int = Field(default=10_000, gt=0)
    sweep_interval_seconds: float = Field(default=60, gt=0)

    credits: Literal["auto", "on", "off"] = Field(
        default="auto", description="Whether pictures cost credits; auto: off on this machine's own address."
    )
    price_credits: Annotated[Decimal | None, _EMPTY_IS_NONE] = Field(
        default=None,
        ge=0,
        le=1_000_000,
        decimal_places=6,
        description="Price of a picture of up to 1024 x 1024 pixels; else the engine's own.",
    )
    submits_per_minute: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None, ge=0, description="Requests that a key may submit in a minute; 0 is no limit."
    )
    concurrent_jobs: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None, ge=0, description="Jobs without an end that a key may have; 0 is no limit."
    )
    account_concurrent_jobs: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None, ge=0, description="The same for all keys of an account together; 0 is no limit."
    )
    account_failures_per_day: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None,
        ge=0,
        description="Requests of an account that may fail in a day, beside as many as are completed; "
        "0 is no limit.",
    )
    polls_per_second: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None, ge=0, description="How often a key may ask for each of its jobs; 0 is no limit."
    )
    account_kept_bytes: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None, ge=0, description="Uploads and characters that an account may keep; 0 is no limit."
    )
    event_streams: Annotated[int | None, _EMPTY_IS_NONE] = Field(
        default=None, ge=0, description="Streams of events that a key may have open; 0 is no limit."
    )
    bad_keys_per_minute: int = Field(
        default=100, ge=0, description="Wrong keys that one address may send; 0 is no limit."
    )

    max_attempts: int = Field(default=3, ge=1)
    lease_seconds: float = Field(default=30, gt=0)
    shutdown_grace_seconds: float = Field(default=20, ge=0)
    worker_idle_seconds: float = Field(
        default=0, ge=0, description="Unload an idle worker after so long; 0 keeps it."
    )
    worker_start_seconds: float = Field(default=600, gt=0, description="Limit for loading an engine.")
    worker_hang_seconds: float = Field(
        default=120, gt=0, description="Least silence after which a worker counts as hung."
    )
    worker_hang_factor: float = Field(
        default=20, gt=1, description="A step this many times slower than the slowest is a hang."
    )

    @field_validator("engines")
    @classmethod
    def _check_engines(cls, engines: str) -> str:
        for name in _split(engines):
            if name not in get_args(EngineName):
                raise ValueError(f"There is no engine {name!r}; there are {', '.join(get_args(EngineName))}")
        return engines

    @field_validator("block_terms")
    @classmethod
    def _check_terms(cls, terms: str) -> str:
        """A term that reads as nothing would be no rule, and nobody would know."""
        for rule in _split(terms):
            for term in rule.split("+"):
                if not any(map(str.isalnum, term)):
                    raise ValueError(
                        f"The term {rule!r} has no letter or digit to be found"
                        f"{' on one side of its +' if '+' in rule else ''}; mend or remove it"
                    )
        return terms

    @field_validator("sdxl_preset_lora", "sdxl_loras")
    @classmethod
    def _check_loras(cls, loras: str | None) -> str | None:
        """One that names no place would only be found out when the engine is loaded."""
        for text in _split(loras or ""):
            if not _read_lora("", text).place.strip("/"):
                raise ValueError(f"The LoRA {text!r} names no place; write a file, a folder or a hub id")
        return loras

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """`fetch_allowed_hosts` as a set of lower-case `host` and `host:port`."""
        return frozenset(_split(self.fetch_allowed_hosts.lower()))

    @property
    def served_engines(self) -> tuple[str, ...]:
        """Every engine that is served, `engine` first, each once."""
        return tuple(dict.fromkeys([self.engine, *_split(self.engines)]))

    @property
    def accepted(self) -> frozenset[str]:
        """`accepted_licences` as a set of lower-case names."""
        return frozenset(_split(self.accepted_licences.lower()))

    @property
    def all_sdxl_loras(self) -> list[Lora]:
        """The LoRA that `sdxl_preset` has, then those of `sdxl_loras`."""
        own = [_read_lora("sdxl_loras", text) for text in _split(self.sdxl_loras)]
        if self.sdxl_preset not in _SDXL_PRESET_LORAS:
            return own
        preset = self.sdxl_preset_lora or _SDXL_PRESET_LORAS[self.sdxl_preset]
        return [_read_lora("sdxl_preset_lora", preset), *own]

    def lead_with(self, engine: str) -> Settings:
        """The same with another of the served engines as the first."""
        others = [name for name in self.served_engines if name != engine]
        return self.model_copy(update={"engine": engine, "engines": ",".join(others)})

    def to_environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process; None is the empty text."""
        return {
            f"UNDERSTUDY_{name.upper()}": "" if value is None else str(value)
            for name, value in self.model_dump().items()
        }

    def decide_for(self, *, loopback: bool) -> Settings:
        """The same with what was left open decided: only who listens for others bills and limits.

        Who has a public URL listens for others, though it be a proxy of this machine that asks.
        """
        usual = {
            "credits": "on",
            "submits_per_minute": 600,
            "concurrent_jobs": 1000,
            "account_concurrent_jobs": 2000,
            "account_failures_per_day": 10_000,
            "polls_per_second": 50,
            "account_kept_bytes": 2_000_000_000,
            "event_streams": 1000,
        }
        own = {**dict.fromkeys(usual, 0), "credits": "off"}
        decided = own if loopback and self.public_url is None else usual
        return self.model_copy(
            update={name: value for name, value in decided.items() if getattr(self, name) in (None, "auto")}
        )


def _split(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_lora(setting: str, text: str) -> Lora:
    """`place`, `place@weight` or `owner/name/file.safetensors@weight` in its parts.

    What lies on this machine is a place as it stands, whatever it is called.
    """
    match = re.fullmatch(r"(.*?)(?:@(-?\d+(?:\.\d+)?))?", text)
    place, weight = match.groups("1") if match and not Path(text).exists() else (text, "1")
    owner, *rest = place.split("/", 2)
    names_file = len(rest) == 2 and place.endswith(".safetensors")
    if not names_file or owner in ("", ".", "..", "~") or Path(place).exists():
        return Lora(setting, place, None, float(weight))
    return Lora(setting, f"{owner}/{rest[0]}", rest[1], float(weight))
