"""Finds the skeleton of a drawn character: a small network of our own, trained on drawings.

`PoseDetector` (detector.py) takes a `ToonPoseModel` as its model, in place of rtmlib's. The
network gives a heatmap for each keypoint and says which keypoints a picture shows at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from ..pose.skeleton import KEYPOINT_NAMES

WINDOW = 2
"""How many cells around a heatmap's peak, each way, tell where between the cells a keypoint is."""

_GROUP_CHANNELS = 8
_HEAD_CHANNELS = 32


class ToonDetector(ModelMixin, ConfigMixin):
    """Pictures (n, 3, side, side) in -1..1 to heatmaps and presences of 18 keypoints.

    Residual convolutions go down to a grid of a 32nd of the side and up again to a quarter, with
    a connection across at each size. On the smallest grid every cell attends to every other
    (Vaswani et al., arXiv 1706.03762): the left arm is told from the right by the whole figure.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self, side: int = 256, widths: Sequence[int] = (32, 64, 96, 128), mixing_blocks: int = 2
    ) -> None:
        """`side` is a multiple of 32; `widths` are the channels at a 4th, 8th, 16th and 32nd of it."""
        super().__init__()
        finest, coarsest = widths[0], widths[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, finest // 2, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(finest // 2, finest, 3, stride=2, padding=1),
        )
        self.down_blocks = nn.ModuleList(_ResidualBlock(width) for width in widths[:-1])
        self.down_steps = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, (side // 32) ** 2, coarsest))
        self.mixers = nn.ModuleList(_AttentionBlock(coarsest) for _ in range(mixing_blocks))
        self.up_steps = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.up_blocks = nn.ModuleList(_ResidualBlock(width) for width in widths[:-1])
        self.heatmap_head = nn.Sequential(_norm(finest), nn.SiLU(), nn.Conv2d(finest, len(KEYPOINT_NAMES), 1))
        self.presence_head = nn.Sequential(nn.LayerNorm(coarsest), nn.Linear(coarsest, len(KEYPOINT_NAMES)))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of where, (n, 18, side / 4, side / 4), and of whether at all, (n, 18).

        The softmax of a heatmap is a distribution over its cells.
        """
        features = self.stem(pictures)
        across = []
        for block, step in zip(self.down_blocks, self.down_steps, strict=True):
            features = block(features)
            across.append(features)
            features = step(features)
        count, channels, height, width = features.shape
        tokens = features.flatten(2).transpose(1, 2) + self.position
        for block in self.mixers:
            tokens = block(tokens)
        presences = self.presence_head(tokens.mean(dim=1))
        features = tokens.transpose(1, 2).reshape(count, channels, height, width)
        for index in reversed(range(len(across))):
            features = functional.interpolate(self.up_steps[index](features), scale_factor=2.0)
            features = self.up_blocks[index](features + across[index])
        return self.heatmap_head(features), presences


class ToonPoseModel:
    """A `ToonDetector` as a model of `PoseDetector`: one figure a picture, of any size."""

    def __init__(self, network: ToonDetector) -> None:
        self._network = network.eval()

    @torch.no_grad()
    def __call__(
        self, picture: NDArray[numpy.uint8]
    ) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
        """Keypoints (1, 18, 2) in pixels and scores (1, 18) of a BGR picture (height, width, 3)."""
        side = self._network.config.side
        square, scale, shift = fit_in_square(Image.fromarray(picture[..., ::-1]), side)
        pixels = torch.from_numpy(numpy.array(square)).permute(2, 0, 1)[None]
        pixels = pixels.to(self._network.device, self._network.dtype) / 127.5 - 1
        points, scores = decode_heatmaps(*self._network(pixels))
        points = (points.double().cpu().numpy() * side - shift) / scale
        return points, scores.double().cpu().numpy()


def fit_in_square(picture: Image.Image, side: int) -> tuple[Image.Image, float, NDArray[numpy.float64]]:
    """A picture whole in the middle of a square, on the colour of its own edge.

    Returns the square, and what takes a point there: scale * point + shift, in pixels.
    """
    scale = side / max(picture.size)
    size = tuple(max(1, round(scale * length)) for length in picture.size)
    pixels = numpy.asarray(picture)
    edges = (pixels[:, 0], pixels[:, -1]) if picture.height > picture.width else (pixels[0], pixels[-1])
    colour = numpy.median(numpy.concatenate(edges), axis=0)
    square = Image.new("RGB", (side, side), tuple(int(value) for value in colour))
    left, top = ((side - length) // 2 for length in size)
    square.paste(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), (left, top))
    return square, scale, numpy.array((left, top), float)


def decode_heatmaps(heatmaps: torch.Tensor, presences: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (n, 18, 2) in fractions of the picture, and scores (n, 18) from 0 to 1.

    A point is the mean of the heatmap's distribution within `WINDOW` cells of its peak, which
    tells it to fractions of a cell (Sun et al., "Integral Human Pose Regression", ECCV 2018).
    """
    height, width = heatmaps.shape[2:]
    peaks = heatmaps.flatten(2).argmax(dim=-1)
    rows, columns = peaks // width, peaks % width
    reach = torch.arange(-WINDOW, WINDOW + 1, device=heatmaps.device)
    window_rows = rows[..., None, None] + reach[:, None]
    window_columns = columns[..., None, None] + reach[None, :]
    inside = (window_rows >= 0) & (window_rows < height) & (window_columns >= 0) & (window_columns < width)
    cells = window_rows.clamp(0, height - 1) * width + window_columns.clamp(0, width - 1)
    logits = heatmaps.flatten(2).gather(2, cells.flatten(2)).view(cells.shape).float()
    shares = logits.masked_fill(~inside, -torch.inf).flatten(2).softmax(dim=-1).view(cells.shape)
    x = (shares * (window_columns + 0.5)).sum(dim=(2, 3)) / width
    y = (shares * (window_rows + 0.5)).sum(dim=(2, 3)) / height
    return torch.stack([x, y], dim=-1), presences.float().sigmoid()


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.layers(features)


class _AttentionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD_CHANNELS
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_attention = nn.Linear(width, 3 * width)
        self.from_attention = nn.Linear(width, width)
        self.thinking = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        count, length, width = tokens.shape
        parts = self.to_attention(self.first_norm(tokens)).view(count, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.from_attention(attended.transpose(1, 2).reshape(count, length, width))
        return tokens + self.thinking(self.second_norm(tokens))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP_CHANNELS, channels)
