"""The examiner: a network that looks at a picture and says what is drawn in it.

It is trained for evaluation alone, and by design has nothing in common with the networks that it
judges: a plain convolutional residual network, where the generator's encoders are transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from understudy.pose.skeleton import KEYPOINT_NAMES

from .attributes import NAMES, NONE, SHOWN_BY, hide_unseen
from .ink import Part
from .readers import ANSWERS

SIDE = 192
"""Side of the square pictures that the examiner looks at, in pixels."""

_GROUP_CHANNELS = 16
_FACE = [Part.EYES, Part.MOUTH]
_ELSEWHERE = 0.01
"""How much a place counts that does not seem to show an answer, beside one that does."""


@dataclass
class Reading:
    """What an examiner says of n pictures.

    answers     what is asked (`readers.ANSWERS`) -> logits of its values, (n, values)
    identities  (n, width) of unit length: pictures of one character are near to each other
    heatmaps    (n, 18, side / 4, side / 4): logits of where each keypoint is
    parts       (n, 13, side / 8, side / 8): logits of what part each place shows
    """

    answers: dict[str, torch.Tensor]
    identities: torch.Tensor
    heatmaps: torch.Tensor
    parts: torch.Tensor


class Examiner(ModelMixin, ConfigMixin):
    """Pictures (n, 3, side, side) in -1..1 to readings; the side is a multiple of 32.

    A residual network (He et al., arXiv 1512.03385) with group normalisation goes down to a 32nd of
    the side, a pyramid (Lin et al., arXiv 1612.03144) brings what it understood back to a quarter.
    For each question a map of its own says where to look for the answer, within what seem to be the
    parts that show it.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 192),
        blocks: Sequence[int] = (1, 1, 2, 2),
        pyramid_width: int = 96,
        identity_width: int = 128,
    ) -> None:
        """`widths` and `blocks` are those at a 4th, 8th, 16th and 32nd of the side."""
        super().__init__()
        finest, coarsest = widths[0], widths[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, finest, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(finest, finest, 3, 2, padding=1),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_ResidualBlock(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.steps = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.across = nn.ModuleList(nn.Conv2d(width, pyramid_width, 1) for width in widths[1:])
        self.smooth = nn.ModuleList(_make_layer(pyramid_width, pyramid_width) for _ in widths[2:])
        self.fine_across = nn.Conv2d(finest, finest, 1)
        self.fine_down = nn.Conv2d(pyramid_width, finest, 1)
        self.heatmap_head = nn.Sequential(
            _make_layer(finest, 2 * finest), nn.Conv2d(2 * finest, len(KEYPOINT_NAMES), 1)
        )
        self.parts_head = nn.Conv2d(pyramid_width, len(Part), 1)
        self.places = nn.Conv2d(pyramid_width, len(ANSWERS), 1)
        self.register_buffer("shown_by", _tell_parts(), persistent=False)
        self.found_norm, self.whole_norm = nn.LayerNorm(pyramid_width), nn.LayerNorm(coarsest)
        self.answer_heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(pyramid_width + coarsest + len(Part), pyramid_width),
                    nn.ReLU(),
                    nn.Linear(pyramid_width, count),
                )
                for name, count in ANSWERS.items()
            }
        )
        self.identity_head = nn.Linear(len(ANSWERS) * pyramid_width, identity_width)

    def forward(self, pictures: torch.Tensor) -> Reading:
        features = self.stem(pictures)
        levels = []
        for index, stage in enumerate(self.stages):
            features = stage(features if index == 0 else self.steps[index - 1](features))
            levels.append(features)
        seen = self.across[-1](levels[-1])
        for across, smooth, level in zip(
            reversed(self.across[:-1]), reversed(self.smooth), reversed(levels[1:-1]), strict=True
        ):
            seen = smooth(across(level) + functional.interpolate(seen, scale_factor=2.0))
        fine = functional.interpolate(self.fine_down(seen), scale_factor=2.0) + self.fine_across(levels[0])

        parts = self.parts_head(seen)
        seeming = parts.detach().float().softmax(dim=1).flatten(2)
        shares = (self.places(seen).flatten(2) + (self.shown_by @ seeming + _ELSEWHERE).log()).softmax(dim=-1)
        found = self.found_norm(shares.to(seen.dtype) @ seen.flatten(2).transpose(1, 2))
        known = torch.cat([self.whole_norm(levels[-1].mean(dim=(2, 3))), seeming.mean(dim=2)], dim=1)
        answers = {
            name: head(torch.cat([found[:, index], known], dim=1))
            for index, (name, head) in enumerate(self.answer_heads.items())
        }
        return Reading(
            answers=answers,
            identities=functional.normalize(self.identity_head(found.flatten(1)), dim=-1),
            heatmaps=self.heatmap_head(fine),
            parts=parts,
        )


def hide_answers(answers: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The answers (n, 26) that pictures with these shares of parts (n, 13) show; else NONE."""
    attributes = hide_unseen(answers[:, : len(NAMES)], shares)
    expression, view = answers[:, len(NAMES)], answers[:, len(NAMES) + 1]
    expression = torch.where(shares[:, _FACE].sum(dim=1) > 0, expression, NONE)
    return torch.column_stack([attributes, expression, view])


def _tell_parts() -> torch.Tensor:
    """Which parts show the answer of each question, (26, 13): ones; where nothing is known of it, the
    whole figure."""
    shown_by = torch.ones(len(ANSWERS), len(Part))
    shown_by[:, Part.SCENE] = 0
    for row, name in enumerate(ANSWERS):
        if name in SHOWN_BY:
            shown_by[row] = 0
            shown_by[row, list(SHOWN_BY[name])] = 1
    return shown_by


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _make_layer(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), _norm(width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(features + self.second(self.first(features)))


def _make_layer(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), _norm(after), nn.ReLU())


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // _GROUP_CHANNELS), channels)
