"""Qwen-Image-Edit: a 20B transformer that reads pictures and prompt through a vision language model.

Wu et al., "Qwen-Image Technical Report", arXiv 2508.02324. Any checkpoint of
`QwenImageEditPlusPipeline` will do, FireRed-Image-Edit for one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageEditPlusPipeline
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin

from ..settings import Settings
from . import DrawRequest
from .device import choose_device, count_cores, prepare_torch
from .editing import EditEngine, EditProfile, load_edit_pipeline
from .fitting import compile_engine, fit_pipeline, measure_memory
from .loading import loading, locate
from .lora import fuse_lora
from .presets import choose_qwen_edit
from .roles import tame_text

PROFILE = EditProfile(
    canvas_pixels=1024 * 1024,
    canvas_multiple=32,
    # The pipeline itself brings every picture to these two areas: one for each of its two encoders.
    pose_pixels=1024 * 1024,
    reference_pixels=1024 * 1024,
)
NO_NEGATIVE = " "
"""Stands for no negative prompt: the models were trained with it."""
PICTURE_MARK = "<|image_pad|>"
"""What stands for a picture in the text encoder's words."""
LIGHTNING_SHIFT = math.log(3)
"""How far the Lightning LoRAs' time steps are shifted towards the noise, whatever the canvas
(github.com/ModelTC/Qwen-Image-Lightning)."""


def load_qwen_edit(settings: Settings, profile: EditProfile = PROFILE) -> QwenEditEngine:
    """Load the checkpoint, and the LoRA if there is one, that the settings name.

    Raises:
        EngineError: weights or device are missing (`engine_load_failed`).
    """
    device = choose_device(settings.device)
    prepare_torch(count_cores(settings))
    preset = choose_qwen_edit(settings)
    memory = measure_memory(settings, "qwen-edit", device)
    setting = "UNDERSTUDY_QWEN_EDIT_MODEL (with its revision)"
    folder = locate(settings, "qwen_edit_model", "qwen-edit")
    with loading("processor", setting):
        processor = PictureProcessor.from_pretrained(folder, subfolder="processor")
    pipeline = load_edit_pipeline(
        QwenImageEditPlusPipeline,
        Qwen2_5_VLForConditionalGeneration,
        folder,
        device,
        memory,
        setting,
        processor=processor,
    )
    if settings.qwen_edit_lora:
        with loading("LoRA", "UNDERSTUDY_QWEN_EDIT_LORA (with its weights and revision)"):
            _apply_lora(pipeline, settings)
    pipeline.text_encoder.register_forward_pre_hook(_tell_pictures_from_words, with_kwargs=True)
    with loading("model", setting):
        fit_pipeline(pipeline, device, memory)
    engine = QwenEditEngine(pipeline, preset, profile, device)
    compile_engine(engine, pipeline, settings, memory)
    return engine


class QwenEditEngine(EditEngine):
    """Guidance runs the transformer twice a step; a Lightning LoRA does without."""

    name = "qwen-edit"
    picture_word = "Picture"

    def _guide(self, request: DrawRequest) -> dict[str, Any]:
        prompt = self._write_prompt(request, request.prompt)
        if not self.preset.guided or request.guidance_scale <= 1:
            return {"prompt": prompt, "true_cfg_scale": 1.0}
        return {
            "prompt": prompt,
            "negative_prompt": tame_text(request.negative_prompt) or NO_NEGATIVE,
            "true_cfg_scale": request.guidance_scale,
        }

    def _shape_noise(self, canvas: tuple[int, int]) -> tuple[int, ...]:
        side = 2 * self._pipeline.vae_scale_factor
        cells = (canvas[0] // side) * (canvas[1] // side)
        return 1, cells, self._pipeline.transformer.config.in_channels

    def _unpack(self, latents: torch.Tensor, canvas: tuple[int, int]) -> torch.Tensor:
        width, height = canvas
        cells = self._pipeline._unpack_latents(latents, height, width, self._pipeline.vae_scale_factor)
        config = self._pipeline.vae.config
        mean, deviation = (
            torch.tensor(values, device=cells.device, dtype=cells.dtype).view(1, -1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return cells[:, :, 0] * deviation + mean

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        # The autoencoder is one of films: these have one frame.
        return self._pipeline.vae.decode(latents.unsqueeze(2), return_dict=False)[0][:, :, 0]


class PictureProcessor(Qwen2VLProcessor):
    """The checkpoint's processor without its part for films, which would need torchvision."""

    def __init__(
        self,
        image_processor: BaseImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
    ) -> None:
        self.image_token = PICTURE_MARK
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def _apply_lora(pipeline: QwenImageEditPlusPipeline, settings: Settings) -> None:
    """Add a Lightning LoRA to the transformer's weights, and draw with the time steps that it knows."""
    folder = Path(locate(settings, "qwen_edit_lora", "qwen-edit"))
    fuse_lora(pipeline, folder / settings.qwen_edit_lora_weights, 1.0)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        pipeline.scheduler.config,
        use_dynamic_shifting=True,
        base_shift=LIGHTNING_SHIFT,
        max_shift=LIGHTNING_SHIFT,
        shift_terminal=None,
    )


def _tell_pictures_from_words(
    encoder: torch.nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Add to the text encoder's arguments which tokens are pictures, so that their places count in two
    directions.

    The pipeline does not tell, and transformers 5 then takes all for words without an error
    (github.com/huggingface/diffusers/issues/14194).
    """
    tokens = keywords["input_ids"]
    keywords.setdefault("mm_token_type_ids", (tokens == encoder.config.image_token_id).int())
    return positional, keywords
