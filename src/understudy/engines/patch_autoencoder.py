"""A linear autoencoder of square patches, which a diffusers pipeline accepts as `vae=`.

Each patch of the picture becomes one latent pixel by one linear map, and back by another:
principal component analysis, written as a strided convolution and its transpose. There is
nothing random in it, so `encode` gives latents and no distribution.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures (n, 3, h, w) in -1..1 to latents (n, latent_channels, h / patch_size, w / patch_size).

    The standardisation of the latents is folded into the weights, so `scaling_factor` is 1.
    `patch_size` is a power of two; h and w are multiples of it.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, latent_channels: int = 32, patch_size: int = 8, scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, latent_channels, patch_size, stride=patch_size)
        self.decoder = nn.ConvTranspose2d(latent_channels, 3, patch_size, stride=patch_size)
        # A pipeline takes the patch size from the number of blocks: 2 ** (blocks - 1).
        blocks = patch_size.bit_length()
        self.register_to_config(block_out_channels=[latent_channels] * blocks, force_upcast=False)

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """The latents of pictures."""
        return self.encoder(picture)

    def decode(
        self,
        latents: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """The pictures of latents; values may leave -1..1 a little."""
        picture = self.decoder(latents)
        return DecoderOutput(sample=picture) if return_dict else (picture,)
