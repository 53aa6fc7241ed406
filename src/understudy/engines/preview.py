"""Small pictures of how far drawings have come, at next to no cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler
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

    def __init__(self, scheduler: Any, sketch: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
        """`sketch` makes small pictures, RGB (n, h, w, 3) in 0..255, of clean latents (n, ...), or
        None where that would cost much."""
        self._scheduler = scheduler
        self._sketch = sketch
        self._before: torch.Tensor | None = None

    def show(self, step: int, steps: int, latents: torch.Tensor) -> list[Image.Image] | None:
        """The previews after `step` of `steps` (from 1), None when this step has none.

        `latents` are (n, ...), as the scheduler left them. Every third step has some,
        fewer of many steps, and the last has none: the pictures themselves follow.
        """
        before, self._before = self._before, latents
        every = max(3, math.ceil(steps / MOST_PREVIEWS))
        if step % every or step >= steps or before is None:
            return None
        clean = self._foresee_clean(step, before, latents)
        if clean is None:
            return None
        with torch.no_grad():
            pixels = self._sketch(clean)
        if pixels is None:
            return None
        return [Image.fromarray(one) for one in pixels.clamp(0, 255).byte().cpu().numpy()]

    def _foresee_clean(self, step: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
        """Where the straight line through the last two latents meets the noise level 0.

        For Euler's method, of a diffusion or of a flow, that is exactly the network's own
        prediction of the clean latents.
        """
        sigmas = getattr(self._scheduler, "sigmas", None)
        if sigmas is None or step >= len(sigmas):
            return None
        old, new = float(sigmas[step - 1]), float(sigmas[step])
        before, after = before.float(), after.float()
        if isinstance(self._scheduler, DPMSolverMultistepScheduler):
            # Its latents are scaled so that picture and noise together always have the same variance.
            before, after = before * math.hypot(1, old), after * math.hypot(1, new)
        return None if old <= new else (old * after - new * before) / (old - new)


def sketch_latents(vae: Any, latents: torch.Tensor) -> torch.Tensor | None:
    """RGB of an SDXL-shaped model's latents (n, channels, h, w): (n, h, w, 3), about 0..255; None
    where there is no cheap way."""
    if isinstance(vae, ToonAutoencoder):
        sketch = vae.decode_preview(latents.to(vae.dtype))
        return sketch.permute(0, 2, 3, 1).float() * 127.5 + 127.5
    if latents.shape[1] == len(SDXL_RGB):
        colours, grey = SDXL_RGB.to(latents.device), SDXL_GREY.to(latents.device)
        return torch.einsum("nlhw,lc->nhwc", latents, colours) + grey
    return None
