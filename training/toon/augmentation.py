"""Pictures changed at random, so that what learns from drawings of ours can read others too.

Everything is done to a batch at once and on its device; a generator decides, so that the same
seed gives the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from understudy.pose.skeleton import MIRRORED

from .ink import Part


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much pictures are changed.

    `zoom` is the range of enlargement, `stretch` the largest difference of it between the sides, as
    a share; `shift` is the largest way in fractions of a side, `turn` the largest angle in degrees.
    `tint` is the largest change of brightness and contrast, as a share. The rest are shares of
    pictures: those whose scene is taken away, those that are blurred, those with noise, those
    with their colours exchanged or turned round, those in grey.
    """

    zoom: tuple[float, float] = (0.8, 1.25)
    stretch: float = 0.05
    shift: float = 0.08
    turn: float = 6.0
    tint: float = 0.06
    plain: float = 0.15
    blurred: float = 0.3
    noisy: float = 0.3
    recoloured: float = 0.0
    grey: float = 0.0


@dataclass
class Batch:
    """Pictures (n, 3, side, side) from -1 to 1, their maps of parts (n, side, side), whole numbers,
    and skeletons (n, 18, 3) in fractions of the side."""

    pictures: torch.Tensor
    parts: torch.Tensor
    skeletons: torch.Tensor


def augment(batch: Batch, how: Augmentation, generator: torch.Generator) -> Batch:
    """A batch changed at random; what it was stays as it is.

    A keypoint that leaves the picture is hidden: its row is 0.
    """
    batch = _take_scenes_away(batch, how.plain, generator)
    batch = _move(batch, how, generator)
    pictures = _recolour(batch.pictures, how, generator)
    pictures = _blur(pictures, how.blurred, generator)
    noisy = _choose(len(pictures), how.noisy, generator)
    if noisy.numel():
        strength = 0.08 * _draw((len(noisy), 1, 1, 1), generator)
        noise = torch.randn(pictures[noisy].shape, generator=generator, device=generator.device)
        pictures[noisy] += strength * noise
    return Batch(pictures.clamp(-1, 1), batch.parts, batch.skeletons)


def _take_scenes_away(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """White or any one colour behind some of the figures."""
    chosen = _choose(len(batch.pictures), share, generator)
    colours = 2 * _draw((len(chosen), 3, 1, 1), generator) - 1
    colours[_draw((len(chosen),), generator) < 0.6] = 1.0
    pictures = batch.pictures.clone()
    scene = (batch.parts[chosen] == Part.SCENE)[:, None]
    pictures[chosen] = torch.where(scene, colours, pictures[chosen])
    return Batch(pictures, batch.parts, batch.skeletons)


def _move(batch: Batch, how: Augmentation, generator: torch.Generator) -> Batch:
    """Turned, zoomed, shifted and mirrored; the edge's own colours come in from outside."""
    count = len(batch.pictures)
    low, high = how.zoom
    zoom = low * (high / low) ** _draw((count,), generator)
    zoom = torch.stack([zoom, zoom * (1 + how.stretch * (2 * _draw((count,), generator) - 1))], dim=1)
    turn = torch.deg2rad(how.turn * (2 * _draw((count,), generator) - 1))
    shift = how.shift * (2 * _draw((count, 2), generator) - 1)
    mirrored = _draw((count,), generator) < 0.5
    sign = torch.where(mirrored, -1.0, 1.0)
    cos, sin = torch.cos(turn), torch.sin(turn)
    # From where, in the picture as it was, each pixel is taken: both around the middle, -1 to 1.
    matrix = torch.stack(
        [
            torch.stack([sign * cos / zoom[:, 0], -sign * sin / zoom[:, 0]], dim=1),
            torch.stack([sin / zoom[:, 1], cos / zoom[:, 1]], dim=1),
        ],
        dim=1,
    )
    way = torch.cat([matrix, 2 * shift[:, :, None]], dim=2)
    grid = functional.affine_grid(way, list(batch.pictures.shape), align_corners=False)
    pictures = functional.grid_sample(batch.pictures, grid, padding_mode="border", align_corners=False)
    parts = functional.grid_sample(
        batch.parts[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return Batch(pictures, parts[:, 0].to(batch.parts.dtype), _move_points(batch.skeletons, way, mirrored))


def _move_points(skeletons: torch.Tensor, way: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Where keypoints are in pictures whose pixels were taken `way` (n, 2, 3) from those before."""
    before = 2 * skeletons[:, :, :2] - 1 - way[:, None, :, 2]
    after = (torch.linalg.solve(way[:, :, :2], before.transpose(1, 2)).transpose(1, 2) + 1) / 2
    shown = (skeletons[:, :, 2] > 0) & (after > 0).all(dim=2) & (after < 1).all(dim=2)
    moved = torch.cat([after, skeletons[:, :, 2:]], dim=2) * shown[:, :, None]
    return torch.where(mirrored[:, None, None], moved[:, list(MIRRORED)], moved)


def _recolour(pictures: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    count = len(pictures)
    contrast = 1 + how.tint * (2 * _draw((count, 1, 1, 1), generator) - 1)
    tint = how.tint * (2 * _draw((count, 3, 1, 1), generator) - 1)
    pictures = pictures * contrast + tint
    chosen = _choose(count, how.recoloured, generator)
    if chosen.numel():
        order = _draw((len(chosen), 3), generator).argsort(dim=1)[:, :, None, None]
        sign = torch.where(_draw((len(chosen), 1, 1, 1), generator) < 0.15, -1.0, 1.0)
        pictures[chosen] = sign * pictures[chosen].take_along_dim(order, dim=1)
    grey = _choose(count, how.grey, generator)
    pictures[grey] = pictures[grey].mean(dim=1, keepdim=True)
    return pictures


def _blur(pictures: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Some pictures as they are after they were made smaller and larger again."""
    chosen = _choose(len(pictures), share, generator)
    if not chosen.numel():
        return pictures
    side = pictures.shape[-1]
    small = int(side * (0.35 + 0.6 * _draw((1,), generator).item()))
    smaller = functional.interpolate(pictures[chosen], (small, small), mode="bilinear", antialias=True)
    pictures[chosen] = functional.interpolate(smaller, (side, side), mode="bicubic")
    return pictures


def _choose(count: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """The numbers of about this share of a batch."""
    return torch.nonzero(_draw((count,), generator) < share)[:, 0]


def _draw(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
