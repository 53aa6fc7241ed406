"""The denoiser as it is trained: the networks together, their loss, and how pictures are drawn.

Knows latents and conditions as tensors; nothing of characters, captions or files.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import nn

from .attributes import ATTRIBUTES
from .encoders import encode_pictures, encode_texts
from .ink import Part
from .networks import (
    SCHEDULE,
    TOLD_SIZE,
    add_ip_adapter,
    build_controlnet,
    build_unet,
    make_scheduler,
)
from .readers import StateReader, score_answers

ATTRIBUTE_COUNTS = {name: len(values) for name, values in ATTRIBUTES.items()}
"""How many answers there are for each attribute."""

PART_CELLS = 2
"""Parts of the body are told for this many cells each way in a latent pixel."""
LARGEST_WEIGHT = 6.0
"""Bound of SNR + 1, the loss's weight by noise (Hang et al., arXiv 2303.09556)."""


@dataclass
class Conditions:
    """What a batch of n pictures is drawn by.

    token_ids      (n, 77) of the prompts
    text_given     (n,) 0 where the text is dropped whole: its states and pooled state are zeros
    references     (n, 3, 192, 192) pictures, -1 to 1; zeros where there is no reference
    skeletons      (n, 3, h, w) pictures, 0 to 1; black where there is no pose
    """

    token_ids: torch.Tensor
    text_given: torch.Tensor
    references: torch.Tensor
    skeletons: torch.Tensor

    def to(self, device: torch.device) -> Conditions:
        """The same on a device."""
        return Conditions(
            **{field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        )

    def without_text(self) -> Conditions:
        """The same references and poses."""
        return replace(self, text_given=torch.zeros_like(self.text_given))

    def without_reference(self) -> Conditions:
        """The same prompts and poses."""
        return replace(self, references=torch.zeros_like(self.references))


@dataclass
class EncodedConditions:
    """Conditions as the UNet takes them.

    text_states    (n, 77, width)
    text_pooled    (n, width)
    image_states   (n, tokens, width)
    skeletons      (n, 3, h, w)
    """

    text_states: torch.Tensor
    text_pooled: torch.Tensor
    image_states: torch.Tensor
    skeletons: torch.Tensor

    def beside(self, others: EncodedConditions) -> EncodedConditions:
        """These and then the others."""
        pairs = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return EncodedConditions(*(torch.cat(pair) for pair in pairs))


class Denoiser(nn.Module):
    """UNet with IP-Adapter, ControlNet and both encoders, trained together.

    Two parts are needed in training only. `part_head` tells which part of the body each quarter of
    a latent pixel shows, from the UNet's last features: a strong hint where things belong.
    `reader` reads the character's attributes out of the reference's states, so that they stay there.
    """

    def __init__(
        self, text_encoder: nn.Module, image_encoder: nn.Module, channels: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        width = text_encoder.config.projection_dim
        shape = {"condition_width": width} | ({"channels": channels} if channels else {})
        self.unet = build_unet(**shape)
        add_ip_adapter(self.unet)
        self.unet.requires_grad_(True)
        self.controlnet = build_controlnet(**shape)
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.reader = StateReader(image_encoder.config.hidden_size, ATTRIBUTE_COUNTS)
        first = self.unet.config.block_out_channels[0]
        self.part_head = nn.Conv2d(first, len(Part) * PART_CELLS**2, 1)
        for network in (self.unet, self.controlnet):
            network.to(memory_format=torch.channels_last)
        schedule = {name: value for name, value in SCHEDULE.items() if name != "timestep_spacing"}
        self.register_buffer("alphas", DDPMScheduler(**schedule).alphas_cumprod, persistent=False)

    def compile_networks(self) -> None:
        """Fuse what can be: steps take a good third less, after minutes of compiling at the first."""
        for network in (self.unet, self.controlnet, self.text_encoder, self.image_encoder):
            network.compile(dynamic=False)

    def encode(self, conditions: Conditions) -> EncodedConditions:
        """What the encoders make of conditions."""
        given = conditions.text_given
        text_states, text_pooled = encode_texts(self.text_encoder, conditions.token_ids)
        return EncodedConditions(
            text_states=text_states * given[:, None, None],
            text_pooled=text_pooled * given[:, None],
            image_states=encode_pictures(self.image_encoder, conditions.references)[0],
            skeletons=conditions.skeletons,
        )

    def forward(
        self, noisy: torch.Tensor, steps: torch.Tensor, conditions: EncodedConditions
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The predicted latents (n, c, h, w) and the parts' logits (n, parts, 2 h, 2 w)."""
        text = conditions.text_states
        told = torch.tensor([*TOLD_SIZE, 0, 0, *TOLD_SIZE], device=noisy.device, dtype=torch.float32)
        added = {
            "text_embeds": conditions.text_pooled,
            "time_ids": told.expand(len(noisy), -1),
        }
        down, middle = self.controlnet(
            noisy, steps, text, conditions.skeletons, added_cond_kwargs=added, return_dict=False
        )
        features: list[torch.Tensor] = []
        hook = self.unet.conv_act.register_forward_hook(lambda _, __, output: features.append(output))
        try:
            predicted = self.unet(
                noisy,
                steps,
                text,
                added_cond_kwargs=added | {"image_embeds": [conditions.image_states[:, None]]},
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )[0]
        finally:
            hook.remove()
        return predicted, F.pixel_shuffle(self.part_head(features[0]), PART_CELLS)

    def add_noise(self, latents: torch.Tensor, steps: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Latents as they are at denoising steps 0..999, the last of which is noise alone."""
        share = self.alphas[steps].view(-1, 1, 1, 1)
        return share.sqrt() * latents + (1 - share).sqrt() * noise

    def measure_loss(
        self,
        latents: torch.Tensor,
        parts: torch.Tensor,
        conditions: Conditions,
        answers: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch at random denoising steps, and its pieces for the log.

        `parts` (n, 2 h, 2 w) has the part of each quarter of a latent pixel. The figure counts
        more than the scene, and the face more than the figure. `answers` (n, 24) are the
        attributes that the references show, -1 where they show none.
        """
        count = len(latents)
        # One step from each equal stretch of the schedule: less noise in the loss than at random.
        places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        order = torch.randperm(count, generator=generator)
        # In single precision a place just below 1 can come out as 1.
        steps = (places[order] * len(self.alphas)).long().clamp(max=len(self.alphas) - 1).to(latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        noisy = self.add_noise(latents, steps, noise)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        encoded = self.encode(conditions)
        predicted, logits = self(noisy, steps, encoded)
        shares = self.alphas[steps]
        weight = (shares / (1 - shares) + 1).clamp(max=LARGEST_WEIGHT).view(-1, 1, 1, 1) / 2
        error = (predicted.float() - latents).square()
        picture_loss = (error * weight * _weigh_places(parts)).mean()
        part_loss = F.cross_entropy(logits.float(), parts)
        answer_loss = score_answers(self.reader(encoded.image_states), answers)
        return picture_loss + 0.05 * part_loss + 0.05 * answer_loss, {
            "picture": picture_loss,
            "parts": part_loss,
            "answers": answer_loss,
            "plain": error.mean(),
        }

    @torch.no_grad()
    def sample(
        self,
        conditions: Conditions,
        unwanted: Conditions,
        noise: torch.Tensor,
        *,
        steps: int = 10,
        guidance_scale: float = 3.0,
        begun: tuple[torch.Tensor, int] | None = None,
    ) -> torch.Tensor:
        """Latents drawn from noise as the pipeline draws them, guided away from `unwanted`.

        `begun` are latents that the drawing goes on from, and how many of the steps are behind it:
        noise is added to them as there would be then.
        """
        scheduler = make_scheduler()
        scheduler.set_timesteps(steps, device=noise.device)
        guided = guidance_scale > 1
        wanted = self.encode(conditions)
        both = self.encode(unwanted).beside(wanted) if guided else wanted
        done = 0
        latents = noise * scheduler.init_noise_sigma
        if begun is not None:
            clean, done = begun
            scheduler.set_begin_index(done)
            latents = clean + scheduler.sigmas[done].to(noise) * noise
        for step in scheduler.timesteps[done:]:
            scaled = scheduler.scale_model_input(latents, step)
            if guided:
                told = step.expand(2 * len(scaled))
                away, towards = self(torch.cat([scaled, scaled]), told, both)[0].float().chunk(2)
                predicted = away + guidance_scale * (towards - away)
            else:
                predicted = self(scaled, step.expand(len(scaled)), wanted)[0].float()
            latents = scheduler.step(predicted, step, latents).prev_sample
        return latents


def _weigh_places(parts: torch.Tensor) -> torch.Tensor:
    """Weights (n, 1, h, w) of latent pixels, from the parts that they show."""
    figure = (parts != Part.SCENE).float()
    face = sum((parts == part).float() for part in (Part.EYES, Part.MOUTH, Part.BEARD, Part.GLASSES))
    weights = 0.4 + 0.9 * figure + 1.5 * face
    return F.avg_pool2d(weights[:, None], PART_CELLS)
