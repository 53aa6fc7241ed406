"""The encoders with their readers, as they are pre-trained: batches in, losses out.

Knows tensors; nothing of files, time or how drawings are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from .attributes import NAMES, NONE, find_shown_colours, hide_unseen, measure_parts, tell_apart
from .augmentation import Augmentation, Batch, augment
from .encoders import encode_pictures, encode_texts
from .groups import GROUP
from .ink import Part
from .readers import (
    ANSWERS,
    COLOURS,
    PatchReader,
    PooledReader,
    StateReader,
    contrast_identities,
    score_answers,
    score_colours,
    score_patches,
)

REFERENCE_CHANGES = Augmentation()
"""How much references are changed: little, for their colours are to be told exactly."""

_FACE_PARTS = [Part.EYES, Part.MOUTH]


@dataclass
class PictureBatch:
    """Drawings in groups, and what is asked of them: the fields of `groups.Arrays` as tensors,
    pictures (n, 3, side, side) from -1 to 1; answers are NONE where a picture does not show them."""

    pictures: torch.Tensor
    parts: torch.Tensor
    answers: torch.Tensor
    colours: torch.Tensor


def prepare_pictures(
    arrays: dict, device: torch.device, generator: torch.Generator | None = None
) -> PictureBatch:
    """A batch of `groups.Arrays`, changed at random where there is a generator."""
    tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
    pictures = tensors["pictures"].permute(0, 3, 1, 2).float() / 127.5 - 1
    batch = Batch(pictures, tensors["parts"], tensors["skeletons"])
    if generator is not None:
        batch = augment(batch, REFERENCE_CHANGES, generator)
    shares = measure_parts(batch.parts)
    answers = tensors["answers"].long()
    attributes = hide_unseen(answers[:, : len(NAMES)], shares)
    expression = torch.where(shares[:, _FACE_PARTS].sum(dim=1) > 0, answers[:, len(NAMES)], NONE)
    answers = torch.cat([attributes, expression[:, None], answers[:, len(NAMES) + 1 :]], dim=1)
    return PictureBatch(batch.pictures, batch.parts, answers, tensors["colours"])


class IdentityTraining(nn.Module):
    """The image encoder, learning to tell characters apart."""

    def __init__(self, encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.encoder = encoder
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, batch: PictureBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch of groups, and its parts for the log."""
        loss = self.contrast(encode_pictures(self.encoder, batch.pictures)[1], batch.answers)
        return loss, {"identity": loss}

    def contrast(self, identities: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """How badly the drawings of groups find the other one of their character."""
        same = _find_same(len(identities), identities.device)
        apart = tell_apart(answers[:, : len(NAMES)]) & ~same
        return contrast_identities(identities, same, apart, self.sharpness.exp())


class ImagePretraining(IdentityTraining):
    """The image encoder, and all that reads it."""

    def __init__(self, encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__(encoder)
        width = encoder.config.hidden_size
        self.state_reader = StateReader(width, ANSWERS | COLOURS)
        self.pooled_reader = PooledReader(width, ANSWERS | COLOURS)
        self.patch_reader = PatchReader(width)

    def forward(self, batch: PictureBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch of groups, and its parts for the log."""
        tokens, identities = encode_pictures(self.encoder, batch.pictures)
        shown = find_shown_colours(batch.answers)
        losses = {}
        for name, values in (
            ("state", self.state_reader(tokens)),
            ("pooled", self.pooled_reader(tokens[:, 0])),
        ):
            losses[f"{name}_answers"] = score_answers(values, batch.answers)
            losses[f"{name}_colours"] = score_colours(values, batch.colours, shown)
        parts, thumbnails = self.patch_reader(tokens[:, 1:])
        losses["parts"], losses["thumbnails"] = score_patches(parts, thumbnails, batch.pictures, batch.parts)
        losses["identity"] = self.contrast(identities, batch.answers)
        return sum(_WEIGHTS[name] * loss for name, loss in losses.items()), losses


class TextPretraining(nn.Module):
    """The text encoder, and what reads it."""

    def __init__(self, encoder: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.encoder = encoder
        self.state_reader = StateReader(encoder.config.hidden_size, ANSWERS)
        self.pooled_reader = PooledReader(encoder.config.projection_dim, ANSWERS)

    def forward(
        self, token_ids: torch.Tensor, answers: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of captions (n, 77) and answers (n, 26), and its parts for the log."""
        states, pooled = encode_texts(self.encoder, token_ids)
        losses = {
            "state_answers": score_answers(self.state_reader(states), answers),
            "pooled_answers": score_answers(self.pooled_reader(pooled), answers),
        }
        return sum(losses.values()), losses


_WEIGHTS = {
    "state_answers": 1.0,
    "pooled_answers": 0.5,
    "state_colours": 1.0,
    "pooled_colours": 0.5,
    "parts": 0.5,
    "thumbnails": 0.5,
    "identity": 0.5,
}


def _find_same(count: int, device: torch.device) -> torch.Tensor:
    """Which drawings of groups are of one character, (n, n): the first two and the last two of each."""
    characters = torch.arange(count, device=device) // (GROUP // 2)
    return characters[:, None] == characters[None, :]
