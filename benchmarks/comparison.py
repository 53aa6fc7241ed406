"""The figures of a comparison: what is measured of each portfolio, with intervals and differences.

Knows numbers; where pictures come from and how they are shown is not its business. Every interval is
that of a bootstrap that draws characters, for the pictures of one character stand or fall together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from instruments import Instruments, Reading
from numpy.typing import NDArray
from portfolios import Place, Portfolio, track_progress
from scene_set import SceneSet
from training.toon.figures import Figure, Marks, measure_difference, measure_mean

from understudy.pose.scores import score_pck
from understudy.pose.skeleton import Skeleton, place_skeleton, visible_keypoints

LEAST_PLACED = 3
"""Keypoints that must be in both skeletons for one to be laid over the other."""


@dataclass(frozen=True)
class Measure:
    """One figure of a portfolio: its title, what it means, and of which scenes it is the mean.

    `scenes` is `poses`, `prompts`, `same look` (those of both that leave the character as it is) or
    `character` (one value for all pictures of a character).
    """

    title: str
    scenes: str
    meaning: str
    cells: str
    digits: int = 3


MEASURES = {
    "likeness_in_poses": Measure(
        "likeness, poses", "poses", "cosine of the identities of picture and reference", "likeness"
    ),
    "likeness_in_prompts": Measure(
        "likeness, prompts", "prompts", "the same where words alone ask, another outfit left out", "likeness"
    ),
    "likeness_to_another": Measure(
        "to another",
        "same look",
        "the same to the next character's reference: what no likeness is",
        "another",
    ),
    "top_1": Measure(
        "own found first",
        "same look",
        "how often no other character's reference is as near as the own",
        "top_1",
    ),
    "consistency": Measure(
        "consistency",
        "character",
        "mean cosine between the pictures of one character, reference left out",
        "consistency",
    ),
    "found": Measure("figure found", "poses", "how often the detector finds anybody", "found"),
    "pck_0.1": Measure(
        "PCK@0.1", "poses", "keypoints within a tenth of the torso of where they were asked for", "pck_0.1"
    ),
    "pck_0.2": Measure("PCK@0.2", "poses", "within a fifth", "pck_0.2"),
    "pck_0.1_placed": Measure(
        "PCK@0.1, placed",
        "poses",
        "the same after the figure is moved and scaled onto the asked one: the pose, wherever it stands",
        "pck_0.1_placed",
    ),
    "adherence": Measure(
        "prompt", "prompts", "CLIPScore: cosine of picture and scene's words, times 100", "adherence", 1
    ),
    "dreamsim": Measure(
        "DreamSim distance", "same look", "to the reference; lower is more alike", "dreamsim"
    ),
}
"""What is told of each portfolio. A measure without its instrument is left out."""


@dataclass(frozen=True)
class Scores:
    """What is measured of one portfolio: by name (characters, scenes, seeds), NaN where there is no
    picture or nothing to measure; `consistency` has one scene and one seed."""

    cells: Mapping[str, NDArray[numpy.float64]]


def read_references(scene_set: SceneSet, instruments: Instruments) -> list[Reading]:
    """What each character's reference shows."""
    return [instruments.read(character.reference) for character in scene_set.characters]


def measure_portfolio(
    portfolio: Portfolio, scene_set: SceneSet, instruments: Instruments, references: Sequence[Reading]
) -> Scores:
    """Read every picture of a portfolio and compare it with what was asked for."""
    cells: dict[str, NDArray[numpy.float64]] = {}
    identities: dict[Place, NDArray[numpy.float64]] = {}
    known = numpy.stack([reference.identity for reference in references])

    def note(name: str, place: Place, value: float) -> None:
        cells.setdefault(name, numpy.full(scene_set.shape, numpy.nan))[place] = value

    for place in track_progress(
        sorted(portfolio.pictures), f"measuring {portfolio.label}", len(portfolio.pictures)
    ):
        picture, row, scene = portfolio.open(place), place[0], scene_set.scenes[place[1]]
        assert picture is not None
        reading = instruments.read(picture)
        identities[place] = reading.identity
        cosines = known @ reading.identity
        note("likeness", place, cosines[row])
        if len(references) > 1:
            note("another", place, cosines[(row + 1) % len(references)])
            note("top_1", place, float(cosines[row] > numpy.delete(cosines, row).max()))
        if reading.dreamsim is not None and (own := references[row].dreamsim) is not None:
            note("dreamsim", place, 1 - float(reading.dreamsim @ own))
        if scene.pose is None and instruments.prompt is not None:
            note("adherence", place, instruments.prompt.score(picture, scene.words))
        asked = scene.find_skeleton(scene_set.side)
        if asked is not None and instruments.detector is not None:
            for name, value in score_pose(reading.skeleton, picture.size, asked, scene_set.side).items():
                note(name, place, value)
    return Scores(cells | {"consistency": _measure_consistency(identities, scene_set)})


def score_pose(found: Skeleton | None, size: tuple[int, int], asked: Skeleton, side: int) -> dict[str, float]:
    """The PCKs of a found skeleton, in pixels of a picture of `size`; who is not found scores 0."""
    if found is None:
        return dict.fromkeys(("found", "pck_0.1", "pck_0.2", "pck_0.1_placed"), 0.0)
    found = place_skeleton(found, size, (side, side))
    return {
        "found": 1.0,
        "pck_0.1": score_pck(found, asked, 0.1),
        "pck_0.2": score_pck(found, asked, 0.2),
        "pck_0.1_placed": score_pck(lay_over(found, asked), asked, 0.1),
    }


def lay_over(found: Skeleton, asked: Skeleton) -> Skeleton:
    """A skeleton moved and scaled, not turned, so that the keypoints that both have lie as near as can
    be (least squares); as it is where they have too few in common."""
    shared = visible_keypoints(found) & visible_keypoints(asked)
    if shared.sum() < LEAST_PLACED:
        return found
    middle, wanted = found[shared, :2].mean(axis=0), asked[shared, :2].mean(axis=0)
    own, other = found[shared, :2] - middle, asked[shared, :2] - wanted
    scale = max(0.0, float((own * other).sum())) / max(float((own**2).sum()), 1e-9)
    laid = found.copy()
    laid[:, :2] = scale * (found[:, :2] - middle) + wanted
    return laid


def measure_detector(
    truths: Portfolio, skeletons: Mapping[Place, Skeleton], instruments: Instruments
) -> dict[str, Figure | None]:
    """The detector's own error: its PCK on true drawings against where their keypoints are.

    No portfolio's PCK means more than this one allows. Empty without a detector or true drawings.
    """
    if instruments.detector is None or not skeletons:
        return {}
    rows: dict[float, dict[int, list[float]]] = {0.1: {}, 0.2: {}}
    for place, truth in skeletons.items():
        picture = truths.open(place)
        assert picture is not None
        found = instruments.read(picture).skeleton
        for threshold, by_character in rows.items():
            score = 0.0 if found is None else score_pck(found, truth, threshold)
            by_character.setdefault(place[0], []).append(score)
    return {
        f"pck_{threshold}": measure_mean([float(numpy.mean(row)) for row in by_character.values()])
        for threshold, by_character in rows.items()
    }


def tell_figures(scores: Scores, scene_set: SceneSet) -> dict[str, Figure | None]:
    """The mean of each measure over pictures, with the interval over characters."""
    figures = {}
    for name, measure in MEASURES.items():
        if measure.cells in scores.cells:
            marks = mark_characters(_choose(scores.cells[measure.cells], measure, scene_set))
            figures[name] = measure_mean(marks.values, marks.weights)
    return figures


def tell_differences(first: Scores, second: Scores, scene_set: SceneSet) -> dict[str, Figure | None]:
    """By how much the first is above the second, of places where both have a picture."""
    figures = {}
    for name, measure in MEASURES.items():
        if measure.cells in first.cells and measure.cells in second.cells:
            pair = [_choose(one.cells[measure.cells], measure, scene_set) for one in (first, second)]
            lacking = numpy.isnan(pair[0]) | numpy.isnan(pair[1])
            marks = [mark_characters(numpy.where(lacking, numpy.nan, one)) for one in pair]
            figures[name] = measure_difference(*marks)
    return figures


def mark_characters(cells: NDArray[numpy.float64]) -> Marks:
    """The mean of each character's row (characters, pictures), counting as often as it has pictures."""
    counts = numpy.isfinite(cells).sum(axis=1)
    return Marks(numpy.nansum(cells, axis=1) / counts.clip(min=1), counts.astype(float))


def _choose(cells: NDArray[numpy.float64], measure: Measure, scene_set: SceneSet) -> NDArray[numpy.float64]:
    """The cells of a measure's scenes, (characters, pictures)."""
    if measure.scenes == "character":
        return cells.reshape(len(cells), -1)
    looks_at_change = measure.cells == "adherence"
    chosen = [
        (measure.scenes != "poses" or scene.pose is not None)
        and (measure.scenes != "prompts" or scene.pose is None)
        and (scene.keeps_look or looks_at_change)
        for scene in scene_set.scenes
    ]
    return cells[:, chosen].reshape(len(cells), -1)


def _measure_consistency(
    identities: Mapping[Place, NDArray[numpy.float64]], scene_set: SceneSet
) -> NDArray[numpy.float64]:
    """The mean cosine of any two pictures of a character in which it should look the same."""
    values = numpy.full((len(scene_set.characters), 1, 1), numpy.nan)
    for row in range(len(values)):
        own = [
            identity
            for place, identity in identities.items()
            if place[0] == row and scene_set.scenes[place[1]].keeps_look
        ]
        if (count := len(own)) > 1:
            # Of unit vectors: the square of their sum has each pair twice, and each with itself.
            whole = float(numpy.square(numpy.sum(own, axis=0)).sum())
            values[row] = (whole - count) / (count * (count - 1))
    return values
