"""How an autoencoder begins, what it is trained for and how good its pictures are.

Knows tensors and pictures; nothing of files, time or how drawings are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from understudy.engines.toon_autoencoder import CELL, ToonAutoencoder, mix_cells

from .pool import Entry

WEIGHTS = {"pixels": 1.0, "edges": 0.5, "areas": 0.5, "sketch": 0.1, "spread": 0.1}
"""How much each part of the loss counts."""

MOST_NOISE = 0.5
"""The largest standard deviation of the noise that latents get, beside their own of 1."""
_CLEAN_SHARE, _MISLED_SHARE = 0.3, 0.3
_FARTHEST_SHIFT = 8
_AREA = 8

MEASURED_NOISES = (0.0, 0.25, 0.5)
_HEAD_PIXELS = 320

PictureLosses = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


@dataclass
class CropBatch:
    """Pictures and pieces of them: the fields of `crops.draw_crop` as tensors, pictures
    (n, 3, h, w) from -1 to 1.

    `predicted` are latents (n, channels, h, w) of the whole pictures as a denoiser predicted them.
    """

    canvases: torch.Tensor
    truths: torch.Tensor
    places: torch.Tensor
    predicted: torch.Tensor | None = None


def prepare_crops(arrays: Entry, device: torch.device, predicted: torch.Tensor | None = None) -> CropBatch:
    """A batch of entries of `crops.draw_crop`, which name their rows of the `predicted` latents."""
    canvases, truths = (prepare_pictures(arrays[name], device) for name in ("canvases", "truths"))
    return CropBatch(
        canvases.contiguous(memory_format=torch.channels_last),
        truths.contiguous(),
        torch.from_numpy(arrays["places"]),
        None if predicted is None else predicted[torch.from_numpy(arrays["rows"])].to(device),
    )


def prepare_pictures(pixels: numpy.ndarray, device: torch.device) -> torch.Tensor:
    """Pictures (n, h, w, 3) of 8 bits as (n, 3, h, w) from -1 to 1."""
    return torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1


class Reconstruction(nn.Module):
    """An autoencoder, and its loss.

    Where the encoder's weights are frozen, only the decoder learns.
    """

    def __init__(self, autoencoder: ToonAutoencoder, *, compiled: bool = False) -> None:
        """`compiled` fuses the loss: on a CPU a step takes half the time, after half a minute."""
        super().__init__()
        self.autoencoder = autoencoder
        self._measure: PictureLosses = torch.compile(measure_pictures) if compiled else measure_pictures

    @property
    def learns_latents(self) -> bool:
        return any(weight.requires_grad for weight in self.autoencoder.encoder.parameters())

    def forward(
        self, batch: CropBatch, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, and its parts for the log; `generator` makes errors in the latents."""
        with torch.set_grad_enabled(self.learns_latents and torch.is_grad_enabled()):
            latents = self.autoencoder.encode(batch.canvases).float()
        patch = batch.canvases.shape[-1] // latents.shape[-1]
        side = batch.truths.shape[-1] // CELL
        used = latents if generator is None else latents + self._make_errors(batch, latents, generator)
        if batch.predicted is not None:
            odd = torch.arange(len(used), device=used.device)[:, None, None, None] % 2 == 1
            used = torch.where(odd, batch.predicted.to(used), used)
        pieces = cut_pieces(used, batch.places, side // patch)
        wanted = cut_pieces(batch.canvases, batch.places * patch, side)
        cells, sketch = self.autoencoder.plan_cells(pieces.contiguous(memory_format=torch.channels_last))
        losses = self._measure(cells, sketch, wanted, batch.truths)
        if self.learns_latents:
            losses["spread"] = measure_spread(latents)
        return sum(WEIGHTS[name] * loss for name, loss in losses.items()), losses

    @torch.no_grad()
    def _make_errors(
        self, batch: CropBatch, latents: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Errors such as a denoiser makes: noise, and a way towards a blurred or shifted picture."""

        def draw_lots(share: float) -> torch.Tensor:
            chosen = torch.rand((len(latents), 1, 1, 1), generator=generator) < share
            return (chosen * torch.rand(chosen.shape, generator=generator)).to(latents.device)

        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        errors = MOST_NOISE * draw_lots(1 - _CLEAN_SHARE) * noise
        if torch.rand((), generator=generator) < 0.5:
            right, down = torch.randint(
                -_FARTHEST_SHIFT, _FARTHEST_SHIFT + 1, (2,), generator=generator
            ).tolist()
            other = self.autoencoder.encode(batch.canvases.roll((down, right), dims=(2, 3))).float()
        else:
            other = functional.avg_pool2d(
                functional.pad(latents, (1, 1, 1, 1), mode="replicate"), 3, stride=1
            )
        return errors + 0.5 * draw_lots(_MISLED_SHARE) * (other - latents)


def cut_pieces(whole: torch.Tensor, places: torch.Tensor, side: int) -> torch.Tensor:
    """The squares of `side` whose first rows and columns are `places` (n, 2)."""
    return torch.stack(
        [
            one[:, row : row + side, column : column + side]
            for one, (row, column) in zip(whole, places.tolist(), strict=True)
        ]
    )


def measure_pictures(
    cells: torch.Tensor, sketch: torch.Tensor, wanted: torch.Tensor, truths: torch.Tensor
) -> dict[str, torch.Tensor]:
    """How far the picture of cells is off the truth, and the sketch off the canvas."""
    drawn = mix_cells(cells, sketch)
    pairs = zip(take_edges(drawn), take_edges(truths), strict=True)
    edges = sum((one - other).abs().mean() for one, other in pairs)
    areas = functional.avg_pool2d(drawn, _AREA) - functional.avg_pool2d(truths, _AREA)
    return {
        "pixels": (drawn - truths).abs().mean(),
        "edges": edges,
        "areas": areas.abs().mean(),
        "sketch": (sketch.float() - wanted).abs().mean(),
    }


def measure_spread(latents: torch.Tensor) -> torch.Tensor:
    """How far the channels are off mean 0 and variance 1; without it they would grow out of the
    noise's reach."""
    means, variances = latents.mean(dim=(0, 2, 3)), latents.var(dim=(0, 2, 3))
    return (means.square() + variances.clamp(min=1e-4).log().square()).mean()


def take_edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The differences from row to row and from column to column."""
    return pictures[..., 1:, :] - pictures[..., :-1, :], pictures[..., :, 1:] - pictures[..., :, :-1]


@torch.no_grad()
def fit_patches(autoencoder: ToonAutoencoder, canvases: torch.Tensor) -> None:
    """Set the linear part to the best that is known without training.

    Principal components, each scaled by the fourth root of its variance: of all linear codes of
    limited power that loses least under equal noise. Then they are turned by a Hadamard matrix, so
    that all channels have the same variance.

    Raises:
        ValueError: the number of latent channels is no power of two.
    """
    channels = autoencoder.config.latent_channels
    patch = autoencoder.encoder.linear.kernel_size[0]
    mean = canvases.mean(dim=(0, 2, 3))
    centred = canvases - mean.view(1, 3, 1, 1)
    patches = functional.unfold(centred, patch, stride=patch).transpose(1, 2).flatten(0, 1).double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    variances, directions = variances[-channels:].clamp(min=1e-8), directions[:, -channels:]
    scales = variances**0.25 * (variances.sqrt().mean()) ** 0.5
    turn = _make_hadamard(channels)
    autoencoder.set_patches(
        mean, (turn @ (directions / scales).T).float(), ((directions * scales) @ turn.T).float()
    )
    autoencoder.set_statistics(autoencoder.encode(canvases))


def _make_hadamard(size: int) -> torch.Tensor:
    """The orthogonal matrix of equal magnitudes (J. J. Sylvester, 1867)."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)]) / 2**0.5
    if len(matrix) != size:
        raise ValueError(f"{size} latent channels: choose a power of two")
    return matrix


@torch.no_grad()
def measure_reconstruction(autoencoder: ToonAutoencoder, wholes: Entry) -> dict[str, float]:
    """PSNR in dB of whole pictures: of the sketch, and of what is decoded, at the canvas's size and
    four times that, from clean and from noised latents; and the energy of edges beside the truth's."""
    figures: dict[str, list[float]] = {}
    for number, (canvas, truth, latents) in enumerate(_encode_wholes(autoencoder, wholes)):
        figures.setdefault("psnr sketch", []).append(
            _measure_psnr(autoencoder.decode_preview(latents), canvas)
        )
        energy = sum(edges.square().sum() for edges in take_edges(truth))
        for noise, drawn in zip(MEASURED_NOISES, _decode_noised(autoencoder, latents, number), strict=True):
            small = functional.avg_pool2d(drawn, CELL), functional.avg_pool2d(truth, CELL)
            figures.setdefault(f"psnr {noise}", []).append(_measure_psnr(drawn, truth))
            figures.setdefault(f"psnr small {noise}", []).append(_measure_psnr(*small))
            share = sum(edges.square().sum() for edges in take_edges(drawn)) / energy
            figures.setdefault(f"edges {noise}", []).append(share.item())
    return {name: round(float(numpy.mean(values)), 3) for name, values in figures.items()}


@torch.no_grad()
def draw_reconstructions(autoencoder: ToonAutoencoder, wholes: Entry, heads: int = 6, figures: int = 3):
    """A sheet: truth, sketch, decoded from clean and from noised latents in rows; heads in full
    resolution and whole figures made smaller in columns."""
    columns = []
    for number, (_, truth, latents) in enumerate(_encode_wholes(autoencoder, wholes)):
        if number == heads + figures:
            break
        sketch = functional.interpolate(
            autoencoder.decode_preview(latents), scale_factor=CELL, mode="bilinear"
        )
        tiles = [truth, sketch, *_decode_noised(autoencoder, latents, number)]
        if number < heads:
            tiles = [_cut_head(tile, wholes["heads"][number]) for tile in tiles]
        else:
            tiles = [
                functional.interpolate(tile, size=(_HEAD_PIXELS, _HEAD_PIXELS), mode="area") for tile in tiles
            ]
        columns.append(torch.cat([tile[0] for tile in tiles], dim=1))
    sheet = torch.cat(columns, dim=2).clamp(-1, 1).permute(1, 2, 0)
    return Image.fromarray(((sheet + 1) * 127.5).round().byte().cpu().numpy())


def _encode_wholes(
    autoencoder: ToonAutoencoder, wholes: Entry
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    device = autoencoder.device
    for number in range(len(wholes["canvases"])):
        one = slice(number, number + 1)
        canvas, truth = (prepare_pictures(wholes[name][one], device) for name in ("canvases", "truths"))
        yield canvas, truth, autoencoder.encode(canvas)


def _decode_noised(autoencoder: ToonAutoencoder, latents: torch.Tensor, seed: int) -> list[torch.Tensor]:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents.device)
    return [autoencoder.decode(latents + share * noise).sample.clamp(-1, 1) for share in MEASURED_NOISES]


def _measure_psnr(drawn: torch.Tensor, truth: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / (drawn.clamp(-1, 1) - truth).square().mean().clamp(min=1e-10)))


def _cut_head(picture: torch.Tensor, head: numpy.ndarray) -> torch.Tensor:
    height, width = picture.shape[2:]
    side = min(_HEAD_PIXELS, height, width)
    top = min(height - side, max(0, round(head[1] * height - 0.6 * side)))
    left = min(width - side, max(0, round(head[0] * width - 0.5 * side)))
    return picture[:, :, top : top + side, left : left + side]
