"""SDXL's schedulers: what they make of noise, and drawings that begin late."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from understudy.engines.preview import Previewer
from understudy.engines.schedulers import LateStart, make_scheduler

SDXL = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""Of the scheduler that SDXL's own checkpoint has."""
KINDS = {"dpm": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler}

generator = torch.Generator().manual_seed(3)
CLEAN = torch.randn(2, 4, 8, 8, generator=generator)
NOISE = torch.randn(2, 4, 8, 8, generator=generator)


@pytest.fixture(params=KINDS)
def scheduler(request):
    made = make_scheduler(request.param, EulerDiscreteScheduler(**SDXL).config)
    assert type(made) is KINDS[request.param]
    return made


def draw(scheduler, latents: torch.Tensor, watch=lambda step, steps, latents: None) -> torch.Tensor:
    """Draw with a network that knows the noise in `CLEAN`."""
    times = scheduler.timesteps
    for number, time in enumerate(times, start=1):
        scheduler.scale_model_input(latents, time)
        latents = scheduler.step(NOISE, time, latents, return_dict=False)[0]
        watch(number, len(times), latents)
    return latents


@pytest.mark.parametrize("steps", [1, 2, 8, 10, 30, 70])
def test_all_noise_is_gone_at_the_end(scheduler, steps):
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps
    begin = scheduler.add_noise(CLEAN, NOISE, scheduler.timesteps[:1].repeat(2))
    assert torch.allclose(draw(scheduler, begin), CLEAN, atol=0.05)


def test_distilled_steps_are_those_of_ddim():
    """With a network of which each step depends on what the one before it left."""
    config = EulerDiscreteScheduler(**SDXL).config
    ours = make_scheduler("euler", config)
    theirs = DDIMScheduler.from_config(
        config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    )
    drawn = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(8)
        assert scheduler.timesteps.tolist() == [999, 874, 749, 624, 499, 374, 249, 124]
        # A pipeline gives Euler's method a five-hundredth less noise.
        latents = NOISE * math.hypot(1, scheduler.sigmas[0]) if scheduler is ours else NOISE
        for time in scheduler.timesteps:
            predicted = torch.tanh(scheduler.scale_model_input(latents, time)) + CLEAN / 5
            latents = scheduler.step(predicted, time, latents, return_dict=False)[0]
        drawn.append(latents)
    assert torch.allclose(*drawn, atol=1e-2)


def test_previews_show_what_is_being_drawn(scheduler):
    scheduler.set_timesteps(10)
    seen = []
    previewer = Previewer(scheduler, lambda clean: seen.append(clean))
    begin = scheduler.add_noise(CLEAN, NOISE, scheduler.timesteps[:1].repeat(2))
    draw(scheduler, begin, previewer.show)
    assert len(seen) == 3
    for clean in seen:
        assert torch.allclose(clean, CLEAN, atol=0.02)


@pytest.mark.parametrize("steps", [6, 8, 10, 30])
def test_a_late_start_draws_on_from_a_little_noise(scheduler, steps):
    late = LateStart(scheduler, 0.4)
    late.set_timesteps(steps, device="cpu")
    assert 2 <= len(late.timesteps) < steps
    assert late.timesteps.max() < 400
    begin = late.add_noise(CLEAN, NOISE, late.timesteps[:1].repeat(2))
    assert torch.allclose(draw(late, begin), CLEAN, atol=0.05)
