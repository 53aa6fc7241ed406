"""What the settings make of an engine, known before its weights are loaded.

Imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..licences import Licence, find_licence
from ..weights import KLEIN_MODELS

if TYPE_CHECKING:
    from ..settings import Settings

KLEIN_STEPS = 4
"""What the distilled weights were made for."""
SDXL_LORA_STEPS = 8
"""What the LoRAs of SDXL's presets were made for."""

_NO_STRENGTHS = {
    "ip_scale": "this model reads its references whole, without a strength",
    "pose_scale": "this model reads the pose whole, without a strength",
}
_NO_GUIDANCE = {
    "guidance_scale": "this model is distilled and draws without guidance",
    "negative_prompt": "this model is distilled and draws without guidance",
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a model is used.

    `model` is a folder or hub id. `idle` names the parameters that never act, and says why.
    Distilled weights draw in `most_steps` at most: more would not make the picture better. Time steps
    that are stretched to end at a certain noise are `least_steps` at least: one cannot be stretched.
    """

    model: str
    idle: Mapping[str, str]
    least_steps: int = 1
    most_steps: int | None = None

    def count_steps(self, asked: int) -> int:
        """How many steps are drawn of those asked for."""
        return max(self.least_steps, min(asked, self.most_steps or asked))

    @property
    def guided(self) -> bool:
        """Whether guidance and a negative prompt act."""
        return "guidance_scale" not in self.idle

    @property
    def licence(self) -> Licence:
        """The licence of the weights."""
        return find_licence(self.model)


@dataclass(frozen=True, kw_only=True)
class SdxlPreset(Preset):
    """How an SDXL checkpoint is used; `scheduler` is one of `schedulers.py`, None for its own."""

    scheduler: Literal["dpm", "euler"] | None = None


def choose_sdxl(settings: Settings) -> SdxlPreset:
    """SDXL as it is, or fast with a LoRA: Hyper-SD (arXiv 2404.13686), which keeps guidance, or
    SDXL-Lightning (arXiv 2402.13929), which does without."""
    model = settings.sdxl_model
    match settings.sdxl_preset:
        case "hyper":
            return SdxlPreset(model=model, idle={}, most_steps=SDXL_LORA_STEPS, scheduler="euler")
        case "lightning":
            return SdxlPreset(model=model, idle=_NO_GUIDANCE, most_steps=SDXL_LORA_STEPS, scheduler="euler")
        case _:
            return SdxlPreset(model=model, idle={}, scheduler="dpm")


def choose_qwen_edit(settings: Settings) -> Preset:
    """Qwen-Image-Edit, fast with a Lightning LoRA."""
    if settings.qwen_edit_lora:
        return _distilled(settings.qwen_edit_model, settings.qwen_edit_lora_steps)
    return Preset(model=settings.qwen_edit_model, idle=_NO_STRENGTHS, least_steps=2)


def choose_flux2_klein(settings: Settings) -> Preset:
    """FLUX.2-klein, distilled or base."""
    model = settings.flux2_klein_model or KLEIN_MODELS[settings.flux2_klein_preset]
    if settings.flux2_klein_preset == "distilled":
        return _distilled(model, KLEIN_STEPS)
    return Preset(model=model, idle=_NO_STRENGTHS)


def choose_preset(settings: Settings, engine: str) -> Preset | None:
    """How an engine's model is used; None of an engine that can be used in one way only."""
    match engine:
        case "sdxl":
            return choose_sdxl(settings)
        case "qwen-edit":
            return choose_qwen_edit(settings)
        case "flux2-klein":
            return choose_flux2_klein(settings)
    return None


def _distilled(model: str, steps: int) -> Preset:
    return Preset(model=model, idle=_NO_STRENGTHS | _NO_GUIDANCE, most_steps=steps)
