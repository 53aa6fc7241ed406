"""The embedded checkpoint's autoencoder, with its real weights."""

from __future__ import annotations

import numpy
import pytest
import torch
import understudy_toon
from diffusers.models.autoencoders.vae import DecoderOutput
from PIL import Image

from understudy.engines.toon_autoencoder import ToonAutoencoder


@pytest.fixture(scope="module")
def autoencoder() -> ToonAutoencoder:
    folder = understudy_toon.checkpoint_path() / "vae"
    return ToonAutoencoder.from_pretrained(folder, torch_dtype=torch.float32)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    pixels = numpy.asarray(picture, dtype=numpy.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]


def measure_psnr(drawn: torch.Tensor, truth: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / (drawn - truth).square().mean()))


@torch.no_grad()
def test_a_drawing_survives_the_way_there_and_back_at_four_times_its_size(autoencoder, reference):
    latents = autoencoder.encode(to_tensor(reference.resize((256, 256), Image.Resampling.BOX)))
    assert latents.shape == (1, 32, 16, 16)
    back = autoencoder.decode(latents)
    assert isinstance(back, DecoderOutput)
    truth = to_tensor(reference.resize((1024, 1024), Image.Resampling.LANCZOS))
    assert back.sample.shape == truth.shape
    assert measure_psnr(back.sample, truth) > 20


@torch.no_grad()
def test_a_sketch_is_the_same_picture_in_small(autoencoder, reference):
    latents = autoencoder.encode(to_tensor(reference.resize((256, 256), Image.Resampling.BOX)))
    small = torch.nn.functional.avg_pool2d(autoencoder.decode(latents).sample, 4)
    assert measure_psnr(autoencoder.decode_preview(latents), small) > 17


@torch.no_grad()
def test_errors_in_latents_are_mended(autoencoder, reference):
    """The noise of a denoiser's last step must not be seen: the sketch shows it, the picture hardly."""
    latents = autoencoder.encode(to_tensor(reference.resize((256, 256), Image.Resampling.BOX)))
    noise = 0.25 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    clean, noisy = (autoencoder.decode(some).sample for some in (latents, latents + noise))
    plain, spoilt = (autoencoder.decode_preview(some) for some in (latents, latents + noise))
    assert (noisy - clean).square().mean() < 0.75 * (spoilt - plain).square().mean()


def test_the_config_tells_a_pipeline_its_scale(autoencoder):
    assert 2 ** (len(autoencoder.config.block_out_channels) - 1) == 8
    assert autoencoder.config.scaling_factor == 1
