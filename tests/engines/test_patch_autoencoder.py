from __future__ import annotations

import numpy
import pytest
import torch
import understudy_toon
from diffusers.models.autoencoders.vae import DecoderOutput

from understudy.engines.patch_autoencoder import PatchAutoencoder


@pytest.fixture(scope="module")
def autoencoder() -> PatchAutoencoder:
    return PatchAutoencoder.from_pretrained(understudy_toon.checkpoint_path() / "vae")


@torch.no_grad()
def test_a_drawing_survives_the_way_there_and_back(autoencoder, reference):
    small = numpy.asarray(reference.resize((128, 128)), dtype=numpy.float32)
    picture = torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)[None]
    latents = autoencoder.encode(picture)
    assert latents.shape == (1, 32, 16, 16)
    back = autoencoder.decode(latents)
    assert isinstance(back, DecoderOutput)
    error = (back.sample - picture).square().mean().item()
    psnr = 10 * numpy.log10(4 / error)
    assert psnr > 20


@torch.no_grad()
def test_it_is_linear(autoencoder):
    first, second = torch.randn(2, 1, 32, 2, 3)

    def decode(latents):
        return autoencoder.decode(latents, return_dict=False)[0]

    zero = decode(torch.zeros_like(first))
    together = decode(first + second) - zero
    assert torch.allclose(together, decode(first) + decode(second) - 2 * zero, atol=1e-4)


def test_the_config_tells_a_pipeline_its_scale(autoencoder):
    assert 2 ** (len(autoencoder.config.block_out_channels) - 1) == autoencoder.config.patch_size == 8
    assert autoencoder.config.scaling_factor == 1
