"""An examination: what is read of pictures of cases, and how often it is right.

The same is asked of everything that is examined: of what a model drew, of the true drawings (how
good the examiner is), of references pasted as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image

from understudy.engines.toon_detector import decode_heatmaps
from understudy.pose.scores import score_pck
from understudy.pose.skeleton import Skeleton

from .attributes import ATTRIBUTES, NAMES, NONE, answer_attributes, measure_parts
from .cases import SIDE as PICTURE_SIDE
from .cases import Case
from .character import EXPRESSIONS
from .examiner import SIDE, Examiner, hide_answers
from .figures import Figure, Marks, find_own, measure_mean, measure_share, measure_sharpness
from .loupe import Loupe, look_closely
from .poses import VIEWS
from .readers import ANSWER_NAMES
from .renderer import draw

MAIN_ATTRIBUTES = (
    "hair", "hair_colour", "skin", "top", "top_colour", "top_pattern", "bottom", "bottom_colour", "shoes",
    "shoes_colour",
)  # fmt: skip
"""What every character has."""
OPTIONAL_ATTRIBUTES = ("layer", "hat", "glasses", "beard", "accessory")
"""What a character may lack; asked apart, for most characters lack most of them."""

_AT_ONCE = 16


@dataclass(frozen=True)
class Instruments:
    """What pictures are read with: networks of an evaluation's own."""

    examiner: Examiner
    loupe: Loupe


@dataclass(frozen=True)
class Examined:
    """What is read of n pictures.

    answers     (n, 26), those of `readers.ANSWERS` that seem the likeliest
    identities  (n, width), of unit length
    points      (n, 18, 2), where each keypoint is, in pixels of the pictures that are asked for
    features    (n, PIECES, channels), for Frechet distances
    sharpness   (n,), as `figures.measure_sharpness` has it
    """

    answers: NDArray[numpy.int64]
    identities: NDArray[numpy.float64]
    points: NDArray[numpy.float64]
    features: NDArray[numpy.float64]
    sharpness: NDArray[numpy.float64]

    def __getitem__(self, chosen: slice | NDArray) -> Examined:
        return Examined(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.answers)


@dataclass(frozen=True)
class Truth:
    """What is true of the pictures of n cases: answers (n, 26), NONE where a right picture would
    not show them, and the skeletons, in pixels of the pictures that are asked for."""

    answers: NDArray[numpy.int64]
    skeletons: list[Skeleton]

    def __getitem__(self, chosen: slice) -> Truth:
        return Truth(self.answers[chosen], self.skeletons[chosen])


def tell_truth(cases: Sequence[Case], *, changed: bool = False) -> Truth:
    """The truth of cases, or of what their orders ask for."""
    answers, parts, skeletons = [], [], []
    for case in cases:
        character = case.changed if changed else case.character
        drawing = draw(character, case.shot, SIDE, SIDE, parts=True)
        expression, view = EXPRESSIONS.index(case.shot.expression), VIEWS.index(case.shot.pose.view)
        answers.append((*answer_attributes(character), expression, view))
        parts.append(drawing.parts)
        skeletons.append(drawing.skeleton * (PICTURE_SIDE / SIDE, PICTURE_SIDE / SIDE, 1.0))
    shares = measure_parts(torch.from_numpy(numpy.stack(parts)))
    return Truth(hide_answers(torch.tensor(numpy.array(answers)), shares).numpy(), skeletons)


def examine(instruments: Instruments, posed: Iterable[tuple[Image.Image, Skeleton]]) -> Examined:
    """Read pictures, one or more, of the size that is asked for; each has a skeleton with it, which says
    where to look closely."""
    posed, read = iter(posed), []
    while batch := list(islice(posed, _AT_ONCE)):
        read.append(_examine_batch(instruments, *zip(*batch, strict=True)))
    return join_examined(read)


def join_examined(several: Sequence[Examined]) -> Examined:
    """What is read of the pictures of all, one after another."""
    return Examined(
        *(numpy.concatenate([getattr(one, field.name) for one in several]) for field in fields(Examined))
    )


@torch.no_grad()
def identify(examiner: Examiner, pictures: NDArray[numpy.uint8]) -> NDArray[numpy.float64]:
    """The identities (n, width) of pictures (n, 192, 192, 3)."""
    pieces = [pictures[start : start + _AT_ONCE] for start in range(0, len(pictures), _AT_ONCE)]
    return numpy.concatenate([examiner(_to_pixels(examiner, piece)).identities.cpu() for piece in pieces])


def mark_identity(read: Examined, crowds: Sequence[NDArray[numpy.float64]]) -> Marks:
    """1 for a picture that finds its own character in its crowd, 0 for others."""
    return Marks(find_own(read.identities, crowds).astype(float), numpy.ones(len(read)))


def mark_attributes(read: Examined, truth: Truth) -> Marks:
    """The share of answers of `MAIN_ATTRIBUTES` that are right, of those that can be seen."""
    main = [NAMES.index(name) for name in MAIN_ATTRIBUTES]
    right = read.answers[:, main] == truth.answers[:, main]
    return _mark_answers(right, truth.answers[:, main] != NONE)


def mark_pose(read: Examined, truth: Truth, threshold: float = 0.1) -> Marks:
    """PCK of the torso's length; every keypoint of the truth counts that its picture shows."""
    scores = [
        score_pck(numpy.column_stack([points, numpy.ones(len(points))]), skeleton, threshold)
        for points, skeleton in zip(read.points, truth.skeletons, strict=True)
    ]
    return Marks(numpy.array(scores), numpy.ones(len(scores)))


def measure_answers(read: Examined, truth: Truth) -> dict[str, Figure | None]:
    """The shares of answers that are right, of those that can be seen: of optional things where there
    is one and where there is none, and of each question."""
    shown = truth.answers != NONE
    right = read.answers == truth.answers
    optional = [NAMES.index(name) for name in OPTIONAL_ATTRIBUTES]
    lacking = numpy.array([ATTRIBUTES[name].index("") for name in OPTIONAL_ATTRIBUTES])
    absent = truth.answers[:, optional] == lacking
    present = shown[:, optional] & ~absent
    figures = {
        f"optional_{name}": measure_marks(_mark_answers(right[:, optional], counted))
        for name, counted in (("present", present), ("absent", absent))
    }
    for index, name in enumerate(ANSWER_NAMES):
        counted = shown[:, index]
        if name in OPTIONAL_ATTRIBUTES:
            counted = present[:, OPTIONAL_ATTRIBUTES.index(name)]
        figures[name] = measure_share(right[counted, index])
    return figures


def measure_marks(marks: Marks) -> Figure | None:
    """The mean of marks."""
    return measure_mean(marks.values, marks.weights)


def measure_obedience(
    read: Examined, cases: Sequence[Case], truth: Truth, before: Truth
) -> dict[str, Figure | None]:
    """How often what an order asks for is drawn, of what can be seen; how often things are drawn that
    it adds or exchanges, and are not that it takes away; and how often the rest stays as it was.

    `truth` is what the orders ask for, `before` that of the references.
    """
    asked = numpy.array([NAMES.index(case.attribute) for case in cases])
    rows = numpy.arange(len(cases))
    seen = truth.answers[rows, asked] != NONE
    done = read.answers[rows, asked] == truth.answers[rows, asked]
    taken = numpy.array([not getattr(case.changed, case.attribute) for case in cases])
    kept = (truth.answers == before.answers) & (truth.answers != NONE)
    right = read.answers == truth.answers
    main = [NAMES.index(name) for name in MAIN_ATTRIBUTES]
    return {
        "orders": measure_share(done[seen]),
        "orders_that_add": measure_share(done[seen & ~taken]),
        "orders_that_take_away": measure_share(done[seen & taken]),
        "rest_stays": measure_marks(_mark_answers(right[:, main], kept[:, main])),
    }


def find_removable(cases: Sequence[Case], truth: Truth) -> dict[int, str]:
    """The places of cases that show something which a negative prompt could take away, and what: of
    several things each in turn."""
    removable = {}
    for index, case in enumerate(cases):
        shown = [
            name
            for name in OPTIONAL_ATTRIBUTES
            if getattr(case.character, name) and truth.answers[index, NAMES.index(name)] != NONE
        ]
        if shown:
            removable[index] = shown[case.number % len(shown)]
    return removable


def measure_removals(read: Examined, names: Sequence[str]) -> Figure | None:
    """How often the picture of each case lacks the thing that is named."""
    lacks = [
        answers[NAMES.index(name)] == ATTRIBUTES[name].index("")
        for answers, name in zip(read.answers, names, strict=True)
    ]
    return measure_share(lacks)


def _mark_answers(right: NDArray[numpy.bool_], shown: NDArray[numpy.bool_]) -> Marks:
    """The share of right answers of those shown, (n, answers) each; pictures are drawn, not answers."""
    counts = shown.sum(axis=1)
    return Marks((right & shown).sum(axis=1) / counts.clip(min=1), counts.astype(float))


@torch.no_grad()
def _examine_batch(
    instruments: Instruments, pictures: Sequence[Image.Image], skeletons: Sequence[Skeleton]
) -> Examined:
    small = numpy.stack(
        [numpy.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)) for picture in pictures]
    )
    reading = instruments.examiner(_to_pixels(instruments.examiner, small))
    points, _ = decode_heatmaps(reading.heatmaps, torch.zeros_like(reading.heatmaps[:, :, 0, 0]))
    large = [numpy.asarray(picture) for picture in pictures]
    features = [look_closely(instruments.loupe, *one) for one in zip(large, skeletons, strict=True)]
    return Examined(
        answers=torch.stack([reading.answers[name].argmax(dim=1) for name in ANSWER_NAMES], 1).cpu().numpy(),
        identities=reading.identities.double().cpu().numpy(),
        points=PICTURE_SIDE * points.double().cpu().numpy(),
        features=numpy.stack(features),
        sharpness=numpy.array([measure_sharpness(picture) for picture in large]),
    )


def _to_pixels(examiner: Examiner, pictures: NDArray[numpy.uint8]) -> torch.Tensor:
    pixels = torch.from_numpy(pictures).to(examiner.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)
