"""An autoencoder of flat cartoon pictures that a diffusers pipeline accepts as `vae=`.

One latent pixel stands for a patch of 16 x 16 pixels. The encoder is a linear map of each patch plus
what a small network adds to it. The decoder draws at four times the size of what was encoded: each
pixel of that becomes a cell of 4 x 4 pixels that are mixed from a few flat colours, as a cartoon is,
so that an edge is sharp wherever in the cell it runs. It is trained on latents with errors in them,
and draws clean pictures of such.

A pipeline has a canvas of its own, 8 x 8 pixels to a latent pixel, on which skeletons are drawn: they
tell enough at half the size of what was encoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn
from torch.nn import functional

CELL = 4
"""The sides of a decoded picture are this many times those of an encoded one."""


class ToonAutoencoder(ModelMixin, ConfigMixin):
    """Pictures (n, 3, h, w) in -1..1 to latents (n, latent_channels, h / 16, w / 16), and latents to
    pictures (n, 3, 4 h, 4 w).

    h and w are multiples of 16. Over drawn characters each latent channel has mean 0 and standard
    deviation 1: that is folded in (`set_statistics`), so `scaling_factor` is 1.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        decoder_channels: Sequence[int] = (32, 48, 64, 96, 128),
        decoder_blocks: Sequence[int] = (2, 2, 3, 2, 2),
        encoder_channels: Sequence[int] = (24, 48, 64, 80),
        colours: int = 3,
        block_out_channels: Sequence[int] = (32, 32, 32, 32),
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ) -> None:
        """A network at random, except that its encoder is linear; `set_patches` makes it useful.

        Args:
            latent_channels: the channels of the latents.
            decoder_channels: the widths of the decoder, from the grid of cells to that of latent
                pixels, each half as fine as the one before. A patch has 2 ** (number - 1) pixels
                each way.
            decoder_blocks: how many residual blocks the decoder has at each of those widths.
            encoder_channels: the widths of the encoder, which halves the grid at each of them; one
                fewer than the decoder's.
            colours: how many flat colours a cell is mixed from.
            block_out_channels: read by pipelines alone, which count 2 ** (number - 1) pixels of their
                canvas to a latent pixel each way.
            scaling_factor: what a pipeline divides latents by.
            force_upcast: whether a pipeline must decode in 32 bits.
        """
        super().__init__()
        patch_size = 2 ** (len(decoder_channels) - 1)
        self.encoder = PatchEncoder(latent_channels, patch_size, encoder_channels)
        self.decoder = CellDecoder(latent_channels, patch_size, decoder_channels, decoder_blocks, colours)
        self.register_buffer("mean", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, latent_channels, 1, 1))

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """The latents of pictures; there is nothing random in them."""
        return (self.encoder(picture) - self.mean) / self.deviation

    def decode(
        self,
        latents: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """The pictures of latents, at four times the encoded size; values may leave -1..1 a little."""
        picture = mix_cells(*self.plan_cells(latents))
        return DecoderOutput(sample=picture) if return_dict else (picture,)

    def decode_preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Blurred pictures of latents, as large as what was encoded, at next to no cost."""
        return self.decoder.sketch(latents * self.deviation + self.mean)

    def plan_cells(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `mix_cells` makes the picture of: everything but the work on its finest grid."""
        return self.decoder(latents * self.deviation + self.mean)

    @torch.no_grad()
    def set_patches(self, mean: torch.Tensor, analysis: torch.Tensor, synthesis: torch.Tensor) -> None:
        """Begin with linear latents, `analysis @ (patch - mean)`, and a sketch that inverts them.

        Args:
            mean: the colour that patches have in the mean, (3,).
            analysis: (latent_channels, 3 * patch_size ** 2), for patches (3, patch_size, patch_size).
            synthesis: the way back, (3 * patch_size ** 2, latent_channels).
        """
        linear, sketch = self.encoder.linear, self.decoder.sketch
        linear.weight.copy_(analysis.reshape(linear.weight.shape))
        linear.bias.copy_(-torch.einsum("lchw,c->l", linear.weight, mean))
        sketch.weight.copy_(synthesis.T.reshape(sketch.weight.shape))
        sketch.bias.copy_(mean)

    @torch.no_grad()
    def set_statistics(self, latents: torch.Tensor) -> None:
        """Fold in the means and standard deviations of `latents`, which `encode` gave of many pictures.

        What `decode` gives of a picture's own latents stays the same.
        """
        mean = latents.mean(dim=(0, 2, 3), keepdim=True)
        deviation = latents.std(dim=(0, 2, 3), keepdim=True)
        self.mean.add_(mean * self.deviation)
        self.deviation.mul_(deviation)


class PatchEncoder(nn.Module):
    """A linear map of each patch, plus what a small network of strided convolutions adds to it."""

    def __init__(self, latent_channels: int, patch_size: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, latent_channels, patch_size, stride=patch_size)
        layers: list[nn.Module] = []
        before = 3
        for width in channels:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1)]
            layers += [nn.ReLU()] if before == 3 else [Residual(width), nn.ReLU()]
            before = width
        layers.append(_make_silent(nn.Conv2d(before, latent_channels, 1)))
        self.detail = nn.Sequential(*layers)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.linear(picture) + self.detail(picture)


class CellDecoder(nn.Module):
    """Understands shapes on coarse grids, where that is cheap, and plans the cells of the finest."""

    def __init__(
        self,
        latent_channels: int,
        patch_size: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        colours: int,
    ) -> None:
        super().__init__()
        self.sketch = nn.ConvTranspose2d(latent_channels, 3, patch_size, stride=patch_size)
        self.enter = nn.Conv2d(latent_channels, channels[-1], 3, padding=1)
        stages: list[nn.Module] = []
        for level in reversed(range(len(channels))):
            stages += [Residual(channels[level]) for _ in range(blocks[level])]
            if level:
                stages += [nn.Conv2d(channels[level], 4 * channels[level - 1], 1), nn.PixelShuffle(2)]
        self.stages = nn.Sequential(*stages, nn.ReLU())
        self.leave = nn.Conv2d(channels[0] + 3, colours * (CELL**2 + 3), 3, padding=1)
        with torch.no_grad():
            # At first all proportions are about the same and the picture is about the sketch.
            self.leave.weight.mul_(0.2)
            self.leave.bias.zero_()

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cells (n, colours * 19, h, w), and the linearly decoded picture (n, 3, h, w) under them."""
        sketch = self.sketch(latents)
        features = self.stages(self.enter(latents))
        cells = self.leave(torch.cat([features, sketch.to(features.dtype)], dim=1))
        # In this order the work on the finest grid is many times faster.
        return cells.contiguous(), sketch.contiguous()


class Residual(nn.Module):
    """Two convolutions whose result is added to what went in.

    Without normalisation: with it one part of a picture would change the colours of another.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = _make_silent(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.second(functional.relu(self.first(functional.relu(features))))


def mix_cells(cells: torch.Tensor, sketch: torch.Tensor) -> torch.Tensor:
    """The picture (n, 3, 4 h, 4 w) of cells (n, colours * 19, h, w) over a sketch (n, 3, h, w).

    Of each cell there are first, for each colour, 16 logits: how much of it each of the 4 x 4 pixels
    has; then the colours, as differences from the sketch. The proportions in a pixel are the softmax
    over the colours. Logits that vary slowly from pixel to pixel make sharp edges, as a threshold of
    a distance field does (C. Green, "Improved alpha-tested magnification", SIGGRAPH 2007).
    """
    pixels = CELL**2
    count, _, height, width = cells.shape
    colours = cells.shape[1] // (pixels + 3)
    logits, differences = cells.float().split((colours * pixels, colours * 3), dim=1)
    shares = [torch.exp(one.clamp(-20, 20)) for one in logits.chunk(colours, dim=1)]
    paints = [sketch.float() + one for one in differences.chunk(colours, dim=1)]
    mixed = sum(
        share.unsqueeze(1) * paint.unsqueeze(2) for share, paint in zip(shares, paints, strict=True)
    ) / sum(shares).unsqueeze(1)
    return functional.pixel_shuffle(mixed.reshape(count, 3 * pixels, height, width), CELL)


def _make_silent(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, giving zero until it has learned: what it is added to passes unchanged."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
