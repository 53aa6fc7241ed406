"""What the detector of drawn characters learns from, its loss and its measures.

The drawings are changed more than references are: other lines, shades and colours, blurred, turned,
small and cut off, and some that show nobody. Knows tensors; nothing of files or time.
"""

from __future__ import annotations

import numpy
import torch
from torch import nn
from torch.nn import functional

from understudy.engines.detector import LEAST_CONFIDENCE, LEAST_KEYPOINTS
from understudy.engines.toon_detector import ToonDetector, decode_heatmaps
from understudy.pose.scores import score_pck
from understudy.pose.skeleton import visible_keypoints

from .augmentation import Augmentation, Batch, augment
from .groups import Arrays

CHANGES = Augmentation(
    zoom=(0.6, 1.4), shift=0.15, turn=25.0, tint=0.25, plain=0.15, blurred=0.4, noisy=0.35, recoloured=0.25,
    grey=0.08,
)  # fmt: skip
"""How much the drawings are changed that it learns from."""

_SPREAD = 1.2
"""Standard deviation of the heatmap around a keypoint, in cells."""
_PRESENCE_WEIGHT = 0.5
_NOBODY_SHARE = 0.03
"""Of the drawings: how many are cut in pieces and put together wrongly."""
_TILES = 8


class DetectorTraining(nn.Module):
    """The detector and its loss."""

    def __init__(self, detector: ToonDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, and its parts for the log."""
        heatmaps, presences = self.detector(batch.pictures)
        shown = batch.skeletons[:, :, 2] > 0
        target = spread_keypoints(batch.skeletons, heatmaps.shape[-1])
        distances = -(target * heatmaps.flatten(2).float().log_softmax(dim=-1)).sum(dim=-1)
        losses = {
            "heatmaps": (distances * shown).sum() / shown.sum().clamp(min=1),
            "presences": functional.binary_cross_entropy_with_logits(presences.float(), shown.float()),
        }
        return losses["heatmaps"] + _PRESENCE_WEIGHT * losses["presences"], losses


def spread_keypoints(skeletons: torch.Tensor, cells: int) -> torch.Tensor:
    """The heatmaps (n, 18, cells * cells) that keypoints (n, 18, 3) in fractions should have: each a
    normal distribution over the cells, its sum 1."""
    middles = torch.arange(cells, device=skeletons.device) + 0.5
    away = cells * skeletons[:, :, :2, None] - middles
    bells = torch.softmax(-(away**2) / (2 * _SPREAD**2), dim=-1)
    return (bells[:, :, 1, :, None] * bells[:, :, 0, None, :]).flatten(2)


def prepare_figures(arrays: Arrays, device: torch.device, generator: torch.Generator | None = None) -> Batch:
    """A batch of drawings, changed at random where there is a generator; then some show nobody."""
    pictures = torch.from_numpy(arrays["pictures"]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    batch = Batch(
        pictures.contiguous(memory_format=torch.channels_last),
        torch.from_numpy(arrays["parts"]).to(device),
        torch.from_numpy(arrays["skeletons"]).to(device),
    )
    if generator is None:
        return batch
    batch = augment(batch, CHANGES, generator)
    nobody = torch.rand(len(pictures), generator=generator, device=device) < _NOBODY_SHARE
    if not nobody.any():
        return batch
    mixed = batch.pictures.clone()
    mixed[nobody] = _shuffle_tiles(batch.pictures[nobody], generator)
    return Batch(mixed, batch.parts, batch.skeletons * ~nobody[:, None, None])


@torch.no_grad()
def measure_detector(detector: ToonDetector, arrays: Arrays) -> dict[str, float]:
    """PCK@0.1 and @0.05 of the torso, the share of presences that are right as the product takes them,
    and the mean distance of keypoints in pixels of 256."""
    device, side = next(detector.parameters()).device, detector.config.side
    close, closer, off, present = [], [], [], []
    for start in range(0, len(arrays["pictures"]), 32):
        batch = prepare_figures({name: array[start : start + 32] for name, array in arrays.items()}, device)
        points, scores = (tensor.cpu().numpy() for tensor in decode_heatmaps(*detector(batch.pictures)))
        for point, score, truth in zip(points, scores, arrays["skeletons"][start:], strict=False):
            shown = visible_keypoints(truth)
            found = numpy.column_stack([side * point, score >= LEAST_CONFIDENCE])
            wanted = truth * (side, side, 1)
            close.append(score_pck(found, wanted))
            closer.append(score_pck(found, wanted, threshold=0.05))
            off.append(256 / side * numpy.hypot(*(found - wanted)[shown, :2].T).mean())
            present.append(((score >= LEAST_CONFIDENCE) == shown).mean())
    figures = {"pck_0.1": close, "pck_0.05": closer, "pixels_off": off, "presences": present}
    return {name: round(float(numpy.mean(values)), 4) for name, values in figures.items()}


@torch.no_grad()
def measure_empty(detector: ToonDetector, arrays: Arrays) -> float:
    """In how many drawings without anybody the product would see somebody."""
    batch = prepare_figures(arrays, next(detector.parameters()).device)
    _, scores = decode_heatmaps(*detector(batch.pictures))
    found = (scores >= LEAST_CONFIDENCE).sum(dim=1) >= LEAST_KEYPOINTS
    return round(float(found.float().mean()), 4)


def _shuffle_tiles(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The pictures in 8 x 8 tiles, the same ones everywhere out of their places."""
    side = pictures.shape[-1]
    tiles = functional.unfold(pictures, side // _TILES, stride=side // _TILES)
    order = torch.rand(tiles.shape[-1], generator=generator, device=pictures.device).argsort()
    return functional.fold(tiles[..., order], (side, side), side // _TILES, stride=side // _TILES)
