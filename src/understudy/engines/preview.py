"""Small pictures of how far drawings have come, at next to no cost."""

from __future__ import annotations

import math

import torch
from diffusers import StableDiffusionXLControlNetPipeline
from PIL import Image

from .toon_autoencoder import ToonAutoencoder

MOST_PREVIEWS = 5
"""The most previews of one picture."""

SDXL_RGB = torch.tensor([(60.0, 60.0, 60.0), (-60.0, -5.0, 10.0), (25.0, 15.0, -5.0), (-70.0, -50.0, -35.0)])
SDXL_GREY = torch.tensor([150.0, 140.0, 130.0])
"""SDXL's four latent channels as red, green and blue (0..255), a linear approximation:
T. A. Vass, "Explaining the SDXL latent space", 2023."""


class Previewer:
    """Follows the latents of one batch of drawings and shows where they are heading."""

    def __init__(self, pipeline: StableDiffusionXLControlNetPipeline) -> None:
        self._pipeline = pipeline
        self._before: torch.Tensor | None = None

    def show(self, step: int, steps: int, latents: torch.Tensor) -> list[Image.Image] | None:
        """The previews after `step` of `steps` (from 1), None when this step has none.

        `latents` are (n, channels, h, w), as the scheduler left them. Every third step has some,
        fewer of many steps, and the last has none: the pictures themselves follow.
        """
        before, self._before = self._before, latents
        every = max(3, math.ceil(steps / MOST_PREVIEWS))
        if step % every or step >= steps or before is None:
            return None
        clean = self._foresee_clean(step, before, latents)
        pixels = None if clean is None else self._decode(clean)
        return None if pixels is None else [Image.fromarray(one) for one in pixels.byte().cpu().numpy()]

    def _foresee_clean(self, step: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
        """Where the straight line through the last two latents meets the noise level 0.

        For Euler's method that is exactly the network's own prediction of the clean latents.
        """
        sigmas = getattr(self._pipeline.scheduler, "sigmas", None)
        if sigmas is None or step >= len(sigmas):
            return None
        old, new = float(sigmas[step - 1]), float(sigmas[step])
        return None if old <= new else (old * after.float() - new * before.float()) / (old - new)

    @torch.no_grad()
    def _decode(self, latents: torch.Tensor) -> torch.Tensor | None:
        """RGB of latents, (n, h, w, 3) in 0..255; None where there is no cheap way."""
        vae = self._pipeline.vae
        if isinstance(vae, ToonAutoencoder):
            sketch = vae.decode_preview(latents.to(vae.dtype))
            pixels = sketch.permute(0, 2, 3, 1).float() * 127.5 + 127.5
        elif latents.shape[1] == len(SDXL_RGB):
            colours, grey = SDXL_RGB.to(latents.device), SDXL_GREY.to(latents.device)
            pixels = torch.einsum("nlhw,lc->nhwc", latents, colours) + grey
        else:
            return None
        return pixels.clamp(0, 255)
