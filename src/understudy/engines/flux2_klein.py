"""FLUX.2-klein: a transformer of 4B parameters that draws in four steps, or undistilled with guidance.

Black Forest Labs, "FLUX.2 [klein]: towards interactive visual intelligence", 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import Flux2KleinPipeline
from transformers import Qwen3ForCausalLM

from ..settings import Settings
from . import DrawRequest, EngineError
from .device import choose_device, count_cores, prepare_torch
from .editing import EditEngine, EditProfile, load_edit_pipeline
from .fitting import compile_engine, fit_pipeline, measure_memory
from .idle import warn_of_long_text
from .loading import loading, locate
from .presets import choose_flux2_klein
from .roles import tame_text

PROFILE = EditProfile(
    canvas_pixels=1024 * 1024,
    canvas_multiple=16,
    # A skeleton has few details, and a smaller picture costs less in every step.
    pose_pixels=512 * 512,
    reference_pixels=1024 * 1024,
)


def load_flux2_klein(settings: Settings, profile: EditProfile = PROFILE) -> Flux2KleinEngine:
    """Load the checkpoint that the settings name.

    Raises:
        EngineError: weights or device are missing, or the weights are not what the preset says
            (`engine_load_failed`).
    """
    device = choose_device(settings.device)
    prepare_torch(count_cores(settings))
    preset = choose_flux2_klein(settings)
    memory = measure_memory(settings, "flux2-klein", device)
    setting = "UNDERSTUDY_FLUX2_KLEIN_MODEL (with its revision)"
    pipeline = load_edit_pipeline(
        Flux2KleinPipeline,
        Qwen3ForCausalLM,
        locate(settings, "flux2_klein_model", "flux2-klein"),
        device,
        memory,
        setting,
    )
    if pipeline.config.is_distilled == preset.guided:
        kind = "distilled" if pipeline.config.is_distilled else "base"
        raise EngineError(
            f"The weights of UNDERSTUDY_FLUX2_KLEIN_MODEL are {kind} ones; set "
            f"UNDERSTUDY_FLUX2_KLEIN_PRESET to {kind}.",
            code="engine_load_failed",
        )
    with loading("model", setting):
        fit_pipeline(pipeline, device, memory)
    engine = Flux2KleinEngine(pipeline, preset, profile, device)
    compile_engine(engine, pipeline, settings, memory)
    return engine


class Flux2KleinEngine(EditEngine):
    """The base weights run the transformer twice a step under guidance; the distilled ones once."""

    name = "flux2-klein"
    picture_word = "Image"

    def _guide(self, request: DrawRequest) -> dict[str, Any]:
        prompt = self._write_prompt(request, request.prompt)
        if not self.preset.guided or request.guidance_scale <= 1:
            return {"prompt": prompt, "guidance_scale": 1.0}
        with torch.no_grad():
            negative, _ = self._pipeline.encode_prompt(prompt=tame_text(request.negative_prompt))
        return {
            "prompt": prompt,
            # The pipeline takes none as words.
            "negative_prompt_embeds": negative,
            "guidance_scale": request.guidance_scale,
        }

    def _shape_noise(self, canvas: tuple[int, int]) -> tuple[int, ...]:
        side = 2 * self._pipeline.vae_scale_factor
        return 1, self._pipeline.transformer.config.in_channels, canvas[1] // side, canvas[0] // side

    def _unpack(self, latents: torch.Tensor, canvas: tuple[int, int]) -> torch.Tensor:
        _, channels, height, width = self._shape_noise(canvas)
        patches = latents.transpose(1, 2).reshape(1, channels, height, width)
        vae = self._pipeline.vae
        mean, variance = (
            values.view(1, -1, 1, 1).to(patches.device, patches.dtype)
            for values in (vae.bn.running_mean, vae.bn.running_var)
        )
        patches = patches * (variance + vae.config.batch_norm_eps).sqrt() + mean
        return self._pipeline._unpatchify_latents(patches)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._pipeline.vae.decode(latents, return_dict=False)[0]

    def _warn(self, request: DrawRequest) -> Iterator[str]:
        yield from super()._warn(request)
        # What is said of the pictures comes first, so that it is the end of long words that is cut off.
        said = self._count_tokens(self._write_prompt(request, ""))
        read = self._pipeline.tokenizer_max_length
        count = self._count_tokens(self._write_prompt(request, request.prompt))
        yield from warn_of_long_text("prompt", count - said, read - said)
        if self.preset.guided:
            said = self._count_tokens("")
            count = self._count_tokens(request.negative_prompt)
            yield from warn_of_long_text("negative_prompt", count - said, read - said)

    def _count_tokens(self, text: str) -> int:
        """Tokens of a text as the pipeline gives it to its language model, in a conversation."""
        tokenizer = self._pipeline.tokenizer
        conversation = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return len(tokenizer(conversation).input_ids)
