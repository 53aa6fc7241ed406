"""What the examiner learns from, its losses and its measures.

It sees characters and shots of its own seeds, in all families of poses: it is no part of what is
measured, and should be at home wherever that draws. Knows tensors; nothing of files or time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy
import torch
from torch import nn
from torch.nn import functional

from understudy.engines.toon_detector import decode_heatmaps
from understudy.pose.scores import score_pck

from .attributes import NAMES, NONE, measure_parts, tell_apart
from .augmentation import Augmentation, augment
from .augmentation import Batch as Drawings
from .character import change_character, make_character
from .detection import spread_keypoints
from .examiner import SIDE, Examiner, Reading, hide_answers
from .groups import GROUP, Arrays, draw_shots
from .ink import Part
from .poses import HELD_OUT_FAMILIES, TRAINING_FAMILIES, make_pose
from .readers import ANSWERS, contrast_identities, score_answers
from .renderer import make_shot

CHANGES = Augmentation(zoom=(0.85, 1.2), shift=0.06, turn=5.0, tint=0.03, plain=0.1, blurred=0.35, noisy=0.35)
"""How much its drawings are changed: what models draw is a little blurred and noisy."""

_WEIGHTS = {"answers": 4.0, "identity": 0.5, "keypoints": 0.5, "parts": 0.5}


class ExaminerTraining(nn.Module):
    """The examiner and its losses."""

    def __init__(self, examiner: Examiner) -> None:
        super().__init__()
        self.examiner = examiner
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, batch: Drawings, answers: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of drawings in groups whose answers (n, 26) are NONE where they show none, and its
        parts for the log."""
        reading = self.examiner(batch.pictures)
        characters = torch.arange(len(answers), device=answers.device) // (GROUP // 2)
        same = characters[:, None] == characters[None, :]
        apart = tell_apart(answers[:, : len(NAMES)]) & ~same
        losses = {
            "answers": score_answers(reading.answers, answers),
            "identity": contrast_identities(reading.identities.float(), same, apart, self.sharpness.exp()),
            "keypoints": _score_keypoints(reading.heatmaps.float(), batch.skeletons),
            "parts": score_parts(reading.parts.float(), batch.parts),
        }
        return sum(_WEIGHTS[name] * loss for name, loss in losses.items()), losses


def draw_examples(seed: int, side: int) -> Arrays:
    """The group of a seed: two drawings of a character, two of one that differs in one attribute.

    The seed is put into words, so that no training whose seeds are numbers draws the same.
    """
    rng = random.Random(f"examiner {seed}")
    character = make_character(rng)
    changed, _ = change_character(character, rng)
    families = (*TRAINING_FAMILIES, *HELD_OUT_FAMILIES)
    shots = [make_shot(rng, make_pose(rng, families)) for _ in range(GROUP)]
    return draw_shots(list(zip((character, character, changed, changed), shots, strict=True)), side)


def prepare_batch(
    arrays: Arrays, device: torch.device, generator: torch.Generator | None = None
) -> tuple[Drawings, torch.Tensor]:
    """Drawings, changed at random where there is a generator, and their answers (n, 26): NONE where
    a drawing does not show them."""
    tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
    pictures = tensors["pictures"].permute(0, 3, 1, 2).float() / 127.5 - 1
    batch = Drawings(pictures, tensors["parts"], tensors["skeletons"])
    if generator is not None:
        batch = augment(batch, CHANGES, generator)
    batch.pictures = batch.pictures.contiguous(memory_format=torch.channels_last)
    return batch, hide_answers(tensors["answers"].long(), measure_parts(batch.parts))


@torch.no_grad()
def measure_examiner(examiner: Examiner, groups: Sequence[Arrays]) -> dict[str, float]:
    """How often answers are right where they are shown, each and in the mean; how often the nearest
    of all pictures is the character's other one, with and without the one that differs from it in one
    attribute; and PCK@0.1."""
    readings, answers, scores = [], [], []
    device = next(examiner.parameters()).device
    for arrays in groups:
        batch, truth = prepare_batch(arrays, device)
        reading = examiner(batch.pictures)
        readings.append(reading)
        answers.append(truth)
        points, _ = decode_heatmaps(reading.heatmaps, torch.zeros_like(reading.heatmaps[:, :, 0, 0]))
        for point, skeleton in zip(points.cpu().numpy(), arrays["skeletons"], strict=True):
            found = numpy.column_stack([SIDE * point, numpy.ones(len(point))])
            scores.append(score_pck(found, skeleton * (SIDE, SIDE, 1)))
    truth = torch.cat(answers)
    each = {}
    for index, name in enumerate(ANSWERS):
        read = torch.cat([reading.answers[name] for reading in readings]).argmax(dim=1)
        known = truth[:, index] != NONE
        if known.any():
            each[name] = round(float((read == truth[:, index])[known].float().mean()), 4)
    return {
        "answers": round(float(numpy.mean(list(each.values()))), 4),
        **measure_identities(readings, truth),
        "pck": round(float(numpy.mean(scores)), 4),
        **each,
    }


def measure_identities(readings: Sequence[Reading], answers: torch.Tensor) -> dict[str, float]:
    """How often the nearest of all pictures is the character's other one: of those that can be told
    from it, and of those without the two that differ from it in one attribute."""
    identities = torch.cat([reading.identities for reading in readings])
    cosines = identities @ identities.T
    own = torch.arange(len(cosines), device=cosines.device)
    twin = own ^ 1
    hidden = ~tell_apart(answers[:, : len(NAMES)])
    hidden[own, twin] = False
    told = cosines.masked_fill(hidden, -2.0).fill_diagonal_(-2.0)
    group = own // GROUP
    near = group[:, None] == group[None, :]
    near[own, twin] = False
    easy = told.masked_fill(near, -2.0)
    return {
        "identity": round(float((told.argmax(dim=1) == twin).float().mean()), 4),
        "identity_among_strangers": round(float((easy.argmax(dim=1) == twin).float().mean()), 4),
    }


def _score_keypoints(heatmaps: torch.Tensor, skeletons: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of where the keypoints (n, 18, 3) are that are shown."""
    wanted = spread_keypoints(skeletons, heatmaps.shape[-1])
    losses = -(wanted * heatmaps.flatten(2).log_softmax(dim=-1)).sum(dim=-1)
    shown = skeletons[:, :, 2] > 0
    return (losses * shown).sum() / shown.sum().clamp(min=1)


def score_parts(logits: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of the parts (n, side, side) that each place (n, 13, cells, cells) shows,
    and how much of each."""
    cell = parts.shape[-1] // logits.shape[-1]
    shares = functional.one_hot(parts.long(), len(Part)).permute(0, 3, 1, 2).float()
    return -(functional.avg_pool2d(shares, cell) * logits.log_softmax(dim=1)).sum(dim=1).mean()
