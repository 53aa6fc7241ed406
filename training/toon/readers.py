"""What reads answers out of the encoders' states while they are pre-trained; thrown away after.

A denoiser finds things in states by attention. So does a reader: each answer has a query of its
own, and what the queries find, a linear map answers. States that a reader can read, a denoiser can.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from .attributes import ATTRIBUTES, COLOUR_KEYS, NONE
from .character import EXPRESSIONS
from .ink import Part
from .poses import VIEWS

THUMBNAIL = 4
"""Side of the thumbnail of its patch that a token is asked for, in pixels."""

ANSWERS: dict[str, int] = {name: len(values) for name, values in ATTRIBUTES.items()} | {
    "expression": len(EXPRESSIONS),
    "view": len(VIEWS),
}
"""What is asked of pictures and of captions -> how many answers there are."""

ANSWER_NAMES = tuple(ANSWERS)
COLOURS: dict[str, int] = {f"{key}_rgb": 3 for key in COLOUR_KEYS}
"""The exact colours that are asked of pictures."""


class StateReader(nn.Module):
    """Reads named answers out of states (n, tokens, width) by attention with one query for each."""

    def __init__(self, width: int, sizes: Mapping[str, int]) -> None:
        """`sizes` are the numbers of values of each answer."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(len(sizes), width))
        self.to_key, self.to_value = nn.Linear(width, width), nn.Linear(width, width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def forward(self, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each answer's values, (n, size)."""
        states = self.norm(states)
        scores = self.queries @ self.to_key(states).transpose(1, 2) * states.shape[-1] ** -0.5
        found = scores.softmax(dim=-1) @ self.to_value(states)
        return {name: head(found[:, index]) for index, (name, head) in enumerate(self.heads.items())}


class PooledReader(nn.Module):
    """Reads the same answers out of one vector (n, width) by linear maps alone."""

    def __init__(self, width: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def forward(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each answer's values, (n, size)."""
        vector = self.norm(vector)
        return {name: head(vector) for name, head in self.heads.items()}


class PatchReader(nn.Module):
    """Reads out of each patch's token what the patch shows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = nn.Linear(width, len(Part))
        self.thumbnail = nn.Linear(width, 3 * THUMBNAIL**2)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the parts (n, patches, 13) and thumbnails (n, patches, 48)."""
        return self.parts(tokens), self.thumbnail(tokens)


def score_answers(values: Mapping[str, torch.Tensor], answers: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of all answers that there are: (n, 26), or as many of the first as asked."""
    losses = [
        functional.cross_entropy(
            values[name].float(), answers[:, index].long(), ignore_index=NONE, reduction="sum"
        )
        for index, name in enumerate(ANSWER_NAMES[: answers.shape[1]])
    ]
    return torch.stack(losses).sum() / (answers != NONE).sum().clamp(min=1)


def score_colours(
    values: Mapping[str, torch.Tensor], colours: torch.Tensor, shown: torch.Tensor
) -> torch.Tensor:
    """The mean distance, 0 to 2, of the colours (n, 9, 3) that are shown (n, 9)."""
    read = torch.stack([values[name] for name in COLOURS], dim=1).float()
    return ((read - colours).abs().mean(dim=2) * shown).sum() / shown.sum().clamp(min=1)


def score_patches(
    parts: torch.Tensor, thumbnails: torch.Tensor, pictures: torch.Tensor, maps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far what was read out of patches is from the truth: cross-entropy of the parts, which
    are shares of a patch, and distance of the thumbnails.

    `pictures` are (n, 3, side, side), `maps` of parts (n, side, side).
    """
    patch = pictures.shape[-1] // round(parts.shape[1] ** 0.5)
    truth = functional.one_hot(maps.long(), len(Part)).permute(0, 3, 1, 2).float()
    truth = functional.avg_pool2d(truth, patch).flatten(2).transpose(1, 2)
    parts_loss = -(truth * parts.float().log_softmax(dim=-1)).sum(dim=-1).mean()
    small = functional.avg_pool2d(pictures, patch // THUMBNAIL)
    small = functional.unfold(small, THUMBNAIL, stride=THUMBNAIL).transpose(1, 2)
    return parts_loss, (thumbnails.float() - small).abs().mean()


def contrast_identities(
    identities: torch.Tensor, same: torch.Tensor, told_apart: torch.Tensor, sharpness: torch.Tensor
) -> torch.Tensor:
    """How badly pictures of the same character find each other (Khosla et al., "Supervised
    Contrastive Learning", NeurIPS 2020).

    `identities` (n, width) are of unit length; `same` (n, n) says which are of one character;
    of the others only those `told_apart` (n, n) count. `sharpness` is what cosines are scaled by.
    """
    himself = torch.eye(len(identities), dtype=torch.bool, device=identities.device)
    logits = (identities @ identities.T).float() * sharpness
    logits = logits.masked_fill(himself | ~(same | told_apart), -torch.inf)
    wanted = same & ~himself
    shares = logits.log_softmax(dim=1).masked_fill(~wanted, 0.0)
    return -(shares.sum(dim=1) / wanted.sum(dim=1)).mean()
