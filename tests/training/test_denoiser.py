"""The denoiser: its loss, its sampler, and its parts in the formats of diffusers."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from training.toon import networks
from training.toon.attributes import ATTRIBUTES
from training.toon.denoiser import Conditions, Denoiser
from training.toon.muon import Muon
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH, GRID, REFERENCE = 64, 4, 16


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=50,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            projection_dim=WIDTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    image = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=REFERENCE,
            patch_size=REFERENCE // 2,
            projection_dim=WIDTH,
        )
    )
    return Denoiser(text, image, channels=(32, 64))


def make_conditions(count):
    chance = torch.Generator().manual_seed(1)
    side = GRID * networks.PATCH
    return Conditions(
        token_ids=torch.randint(2, 50, (count, 8), generator=chance),
        text_given=torch.ones(count),
        references=torch.randn(count, 3, REFERENCE, REFERENCE, generator=chance),
        skeletons=torch.rand(count, 3, side, side, generator=chance),
    )


def make_lesson(count):
    chance = torch.Generator().manual_seed(2)
    latents = torch.randn(count, networks.LATENT_CHANNELS, GRID, GRID, generator=chance)
    parts = torch.randint(0, 13, (count, 2 * GRID, 2 * GRID), generator=chance)
    return latents, parts, torch.randint(0, 2, (count, len(ATTRIBUTES)), generator=chance)


def test_it_learns_pictures_from_their_conditions(denoiser):
    latents, parts, answers = make_lesson(4)
    conditions, optimizer = make_conditions(4), Muon(denoiser.parameters(), lr=3e-3)
    errors = []
    for step in range(60):
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(step)
        loss, figures = denoiser.measure_loss(latents, parts, conditions, answers, generator)
        loss.backward()
        optimizer.step()
        errors.append(float(figures["plain"].detach()))
    assert sum(errors[-5:]) < 0.3 * sum(errors[:5])


def test_every_weight_gets_a_gradient(denoiser):
    latents, parts, answers = make_lesson(2)
    generator = torch.Generator().manual_seed(0)
    denoiser.measure_loss(latents, parts, make_conditions(2), answers, generator)[0].backward()
    idle = {
        name
        for name, weight in denoiser.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.abs().sum() > 0)
    }
    # The states are those before the last layer: only the pooled embeddings read what follows.
    assert not {name for name in idle if not name.startswith(("text_encoder", "image_encoder"))}


def test_the_last_step_is_noise_alone(denoiser):
    latents, _, _ = make_lesson(2)
    noise = torch.randn_like(latents)
    last = denoiser.add_noise(latents, torch.tensor([999, 999]), noise)
    assert torch.allclose(last, noise, atol=1e-3)
    first = denoiser.add_noise(latents, torch.tensor([0, 0]), noise)
    assert (first - latents).abs().mean() < 0.05


def test_samples_repeat_and_guidance_changes_them(denoiser):
    denoiser.eval()
    conditions = make_conditions(2)
    nothing = conditions.without_reference().without_text()
    noise = torch.randn(2, networks.LATENT_CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(3))
    once, again = (denoiser.sample(conditions, nothing, noise, steps=3) for _ in range(2))
    plain = denoiser.sample(conditions, nothing, noise, steps=3, guidance_scale=1)
    assert torch.equal(once, again)
    assert (once - plain).abs().max() > 1e-3


def test_unet_and_ip_adapter_come_back_from_their_files(denoiser, tmp_path):
    denoiser.eval()
    latents, _, _ = make_lesson(2)
    conditions, steps = make_conditions(2), torch.tensor([500, 900])
    encoded = denoiser.encode(conditions)
    before = denoiser(latents, steps, encoded)[0]
    networks.strip_ip_adapter(denoiser.unet).save_pretrained(tmp_path / "unet")
    networks.save_ip_adapter(denoiser.unet, tmp_path / "adapter.safetensors")
    denoiser.unet = UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
    networks.add_ip_adapter(denoiser.unet, networks.load_ip_adapter_weights(tmp_path / "adapter.safetensors"))
    after = denoiser(latents, steps, encoded)[0]
    assert torch.allclose(before, after, atol=1e-5)


def test_a_drawing_goes_on_from_latents_under_the_noise_of_its_step(denoiser):
    """A denoiser that knows the truth gives it back, wherever it begins."""
    latents, _, _ = make_lesson(2)
    conditions = make_conditions(2)
    nothing = conditions.without_reference().without_text()
    seen = []

    def knowing(noisy, steps, conditions):
        seen.append((float(steps[0]), noisy))
        return latents, None

    denoiser.forward = knowing
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    drawn = denoiser.sample(conditions, nothing, noise, steps=5, guidance_scale=1, begun=(latents, 3))
    assert len(seen) == 2
    step, noisy = seen[0]
    assert torch.allclose(noisy, denoiser.add_noise(latents, torch.tensor([int(step)]), noise), atol=1e-3)
    assert torch.allclose(drawn, latents, atol=1e-4)
