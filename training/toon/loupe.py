"""The loupe: a small network that looks at pieces of a picture at its full size, how they are drawn.

The Frechet distances of an evaluation are those of its features. The examiner would not do: it sees
pictures made small, and has learned to overlook what is a little blurred or noisy. The loupe sees
every pixel, learns from clean drawings alone, and has no normalisation, which would hide how strong
edges are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from understudy.pose.skeleton import Skeleton, visible_keypoints

from .attributes import NAMES, NONE, answer_attributes, hide_unseen, measure_parts
from .character import make_character
from .examiner_training import score_parts
from .groups import Arrays
from .ink import Part
from .poses import HELD_OUT_FAMILIES, TRAINING_FAMILIES, make_pose
from .readers import ANSWERS, score_answers
from .renderer import draw, make_shot

PIECE_SIDE = 192
"""Side of the pieces that the loupe looks at, in pixels of the picture."""
PIECES = 6
"""Pieces of each picture: about its first keypoints that are seen, in this order."""
_ORDER = (0, 4, 7, 10, 13, 1, 8, 11, 9, 12, 3, 6, 2, 5, 16, 17, 14, 15)

_PICTURE_SIDE = 1024
_BANDS = 3
_PARTS_WEIGHT = 2.0


@dataclass
class Look:
    """What a loupe makes of n pieces.

    features  (n, channels): how much of each kind of line and surface there is
    parts     (n, 13, side / 8, side / 8): logits of what part each place shows
    answers   attribute -> logits of its values, (n, values)
    """

    features: torch.Tensor
    parts: torch.Tensor
    answers: dict[str, torch.Tensor]


class Loupe(ModelMixin, ConfigMixin):
    """Pieces (n, 3, side, side) in -1..1 to looks; the side is a multiple of 16.

    The features are the mean activations at a 4th and an 8th of the side, and the grain.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: Sequence[int] = (16, 32, 64, 96)) -> None:
        """`widths` are those at half of the side, a 4th, an 8th and a 16th."""
        super().__init__()
        first, fine, middle, coarse = widths
        self.stem = _step_down(3, first)
        self.fine = nn.Sequential(_step_down(first, fine), _Residual(fine))
        self.middle = nn.Sequential(_step_down(fine, middle), _Residual(middle))
        self.coarse = nn.Sequential(_step_down(middle, coarse), _Residual(coarse))
        self.parts_head = nn.Conv2d(middle, len(Part), 1)
        self.answer_heads = nn.ModuleDict({name: nn.Linear(coarse, ANSWERS[name]) for name in NAMES})

    def forward(self, pieces: torch.Tensor) -> Look:
        fine = self.fine(self.stem(pieces))
        middle = self.middle(fine)
        whole = self.coarse(middle).mean(dim=(2, 3))
        learned = [level.mean(dim=(2, 3)) for level in (fine, middle)]
        return Look(
            features=torch.cat([*learned, measure_grain(pieces)], dim=1),
            parts=self.parts_head(middle),
            answers={name: head(whole) for name, head in self.answer_heads.items()},
        )


class LoupeTraining(nn.Module):
    """The loupe and its loss: what part each place shows, and which attributes a piece."""

    def __init__(self, loupe: Loupe) -> None:
        super().__init__()
        self.loupe = loupe

    def forward(self, arrays: Arrays) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of pieces as `draw_piece` gives them, and its parts for the log."""
        pixels, parts, answers = prepare_pieces(arrays, self.loupe.device)
        look = self.loupe(pixels)
        losses = {
            "parts": score_parts(look.parts.float(), parts),
            "answers": score_answers(look.answers, answers),
        }
        return _PARTS_WEIGHT * losses["parts"] + losses["answers"], losses


def measure_grain(pieces: torch.Tensor) -> torch.Tensor:
    """How much there is in the finest bands of pieces (n, 3, side, side), (n, 18): what no network has to
    learn to see.

    The bands are those of a Laplacian pyramid (Burt and Adelson, 1983); of each band and colour the mean
    size of its values is told, as of textures (Portilla and Simoncelli, 2000), and that of their square
    roots, which counts what is weak and everywhere more than edges, strong and few.
    """
    told, level = [], pieces
    for _ in range(_BANDS):
        coarse = functional.avg_pool2d(level, 2)
        smooth = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear")
        sizes = (level - smooth).abs()
        told += [sizes.mean(dim=(2, 3)), sizes.sqrt().mean(dim=(2, 3))]
        level = coarse
    return torch.cat(told, dim=1)


def draw_piece(seed: int) -> Arrays:
    """The piece of a seed, with what it shows: pictures, parts and answers as in `Arrays`, without
    their first axis.

    The seed is put into words, so that no training whose seeds are numbers draws the same.
    """
    rng = random.Random(f"loupe {seed}")
    character = make_character(rng)
    shot = make_shot(rng, make_pose(rng, (*TRAINING_FAMILIES, *HELD_OUT_FAMILIES)))
    whole = draw(character, shot, _PICTURE_SIDE, _PICTURE_SIDE, window=(0, 0, 1, 1))
    seen = numpy.flatnonzero(visible_keypoints(whole.skeleton))
    x, y = whole.skeleton[rng.choice(seen), :2] if len(seen) else (_PICTURE_SIDE / 2,) * 2
    reach = PIECE_SIDE / 3
    left, top = (_begin(place + rng.uniform(-reach, reach)) for place in (x, y))
    window = (left, top, PIECE_SIDE, PIECE_SIDE)
    piece = draw(character, shot, _PICTURE_SIDE, _PICTURE_SIDE, window=window, parts=True)
    return {
        "pictures": piece.picture,
        "parts": piece.parts,
        "answers": answer_attributes(character).astype(numpy.int8),
    }


def prepare_pieces(arrays: Arrays, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stacked pieces as pixels, parts, and the answers that they show (n, 24): NONE where they do not."""
    pixels = _to_pixels(arrays["pictures"], device)
    parts = torch.from_numpy(arrays["parts"]).to(device)
    answers = torch.from_numpy(arrays["answers"]).to(device).long()
    return pixels, parts, hide_unseen(answers, measure_parts(parts))


@torch.no_grad()
def measure_loupe(loupe: Loupe, arrays: Arrays) -> dict[str, float]:
    """How often answers are right of those that pieces show."""
    pixels, _, answers = prepare_pieces(arrays, loupe.device)
    read = [loupe(some).answers for some in pixels.split(32)]
    chosen = torch.stack([torch.cat([one[name] for one in read]).argmax(dim=1) for name in NAMES], dim=1)
    return {"answers": round(float((chosen == answers)[answers != NONE].float().mean()), 4)}


@torch.no_grad()
def look_closely(loupe: Loupe, picture: NDArray[numpy.uint8], skeleton: Skeleton) -> NDArray[numpy.float64]:
    """The features (PIECES, channels) of a picture (height, width, 3), in pieces about the keypoints
    of a skeleton in its pixels."""
    height, width, _ = picture.shape
    places = [skeleton[number, :2] for number in _ORDER if skeleton[number, 2] > 0] or [
        (width / 2, height / 2)
    ]
    pieces = []
    for number in range(PIECES):
        x, y = places[number % len(places)]
        left, top = _begin(x, width), _begin(y, height)
        pieces.append(picture[top : top + PIECE_SIDE, left : left + PIECE_SIDE])
    return loupe(_to_pixels(numpy.stack(pieces), loupe.device)).features.double().cpu().numpy()


def _begin(middle: float, length: int = _PICTURE_SIDE) -> int:
    """Where a piece begins that has its middle there, within a picture so long."""
    return min(length - PIECE_SIDE, max(0, round(middle - PIECE_SIDE / 2)))


def _to_pixels(pictures: NDArray[numpy.uint8], device: torch.device) -> torch.Tensor:
    pixels = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def _step_down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(features + self.second(functional.relu(self.first(features))))
