"""An evaluation: what a model is asked to draw of held-out cases, and the figures of what it drew.

Everything is measured in the same way: what the model drew, what it drew with something left
out, the references as they are, and the true drawings, which tell how good the examiner is. Differences
are between pictures of the same cases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from understudy.engines import DrawRequest
from understudy.worker import choose_candidate_seed

from .artist import Artist
from .cases import SIDE, Case, draw_crowd, draw_stranger, make_case
from .examination import (
    Examined,
    Instruments,
    Truth,
    examine,
    find_removable,
    identify,
    mark_attributes,
    mark_identity,
    mark_pose,
    measure_answers,
    measure_marks,
    measure_obedience,
    measure_removals,
    tell_truth,
)
from .figures import (
    Figure,
    Marks,
    bootstrap,
    compare_excess,
    measure_difference,
    measure_frechet,
    measure_mean,
    measure_share,
    standardize,
)

Results = dict[str, Figure | None]

_NO_REFERENCE = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
"""The grey that an image encoder sees as zeros: in training that is what no reference is."""
BLUR_PIXELS, NOISE_LEVELS = 1.0, 4.0
"""How pictures are spoiled to see whether that is told: standard deviations, the noise's of 255."""
_RESAMPLES = 200
_AT_ONCE = 16
_AHEAD = 32
"""How many things the executor draws before they are asked for."""


@dataclass(frozen=True)
class Condition:
    """What a model is given of a case; `prompt` is `direction`, `full`, `order` or `none`, and
    `references` how many there are, up to two."""

    prompt: str = "direction"
    references: int = 1
    posed: bool = True
    steps: int = 10
    guidance_scale: float = 3.0


@dataclass(frozen=True)
class Material:
    """Cases and all that is known of them; nothing of it depends on a model.

    `crowds` are the identities (50, width) of each case's crowd; `right` is what is read of the
    true drawings, `strangers` of true drawings of others.
    """

    cases: list[Case]
    truth: Truth
    crowds: list[NDArray[numpy.float64]]
    right: Examined
    strangers: Examined


def prepare_material(instruments: Instruments, count: int, strangers: int, executor: Executor) -> Material:
    """Make `count` cases and draw what they are measured against, in the executor's processes."""
    cases = list(_do_ahead(executor, make_case, range(count)))
    truth = tell_truth(cases)
    crowds = _do_ahead(executor, draw_crowd, cases)
    right = zip(_do_ahead(executor, Case.draw_truth, cases), truth.skeletons, strict=True)
    return Material(
        cases=cases,
        truth=truth,
        crowds=[identify(instruments.examiner, crowd) for crowd in crowds],
        right=examine(instruments, right),
        strangers=examine(instruments, _do_ahead(executor, draw_stranger, range(strangers))),
    )


class Evaluation:
    """Measures what one model draws of the material's cases; the first cases where few are enough."""

    def __init__(self, instruments: Instruments, artist: Artist, material: Material) -> None:
        self._instruments, self.artist, self.material = instruments, artist, material
        self._read: dict[Condition, Examined] = {}

    def measure_bounds(self) -> dict[str, Results]:
        """Between what a model's figures lie: the true drawings, these through the autoencoder alone,
        and the references pasted as they are."""
        material = self.material
        return {
            "truth": self._measure(material.right) | {"frechet": self._measure_frechet(material.right)},
            "reconstruction": self._measure(self._reconstructed)
            | {"frechet": self._measure_frechet(self._reconstructed)},
            "copy": self._measure(self._examine_pictures(case.draw_reference() for case in material.cases)),
        }

    def measure(self, condition: Condition, count: int) -> Results:
        """The figures of `count` drawn pictures."""
        return self._measure(self._examine(condition, count))

    def measure_cleanliness(self, condition: Condition, count: int) -> Results:
        """How clean drawn pictures are.

        frechet          their Frechet distance to true drawings of others
        frechet_ratio    how far they are beyond the true drawings' own distance, as a multiple of how
                         far the autoencoder's own reconstructions are
        sharpness_ratio  their edges' sharpness as a share of the reconstructions'
        """
        drawn, reconstructed = self._examine(condition, count), self._reconstructed[:count]
        blunt = numpy.maximum(reconstructed.sharpness, 1e-9)
        return {
            "frechet": self._measure_frechet(drawn),
            "frechet_ratio": bootstrap(self._compare_excess(drawn), count, _RESAMPLES),
            "sharpness_ratio": measure_mean(drawn.sharpness / blunt, blunt),
        }

    def measure_spoiled(self, count: int) -> Results:
        """The `frechet_ratio` of reconstructions that are blurred, and of such with noise: whether it would
        tell a drawing so spoiled."""
        ratios = {}
        for name, spoil in (("blurred", blur_slightly), ("noisy", add_noise)):
            cases = self.material.cases[:count]
            spoiled = (spoil(self.artist.reconstruct(case.draw_truth())) for case in cases)
            read = self._examine_pictures(spoiled)
            ratios[name] = bootstrap(self._compare_excess(read), count, _RESAMPLES)
        return ratios

    def compare(self, first: Condition, second: Condition, count: int) -> Results:
        """By how much the first is better, in the same `count` cases."""
        return self._compare(self._examine(first, count), self._examine(second, count))

    def compare_variants(self, first: Condition, second: Condition, count: int) -> Results:
        """The same, and by how much the first's `frechet_ratio` is higher."""
        ratios = [self._compare_excess(self._examine(condition, count)) for condition in (first, second)]
        higher = bootstrap(lambda chosen: ratios[0](chosen) - ratios[1](chosen), count, _RESAMPLES)
        return self.compare(first, second, count) | {"frechet_ratio": higher}

    def compare_best(self, condition: Condition, count: int, candidates: int) -> tuple[Results, Results]:
        """The figures of the picture that the product would choose of so many candidates, and by how
        much it is better than the first candidate."""
        best = self._examine_pictures(self._choose_best(condition, count, candidates))
        return self._measure(best), self._compare(best, self._examine(condition, count))

    def measure_orders(self, condition: Condition, count: int) -> Results:
        """How far the orders of cases are followed where a model is given that; see `examination`."""
        return self._measure_obedience(self._examine(condition, count))

    def measure_orders_on_truth(self, count: int) -> Results:
        """The same of true drawings of what is ordered."""
        cases = self.material.cases[:count]
        return self._measure_obedience(
            self._examine_pictures(case.draw_truth(changed=True) for case in cases)
        )

    def measure_negatives(self, condition: Condition, count: int) -> Results:
        """How often a thing that the reference has is lacking: where the negative prompt names it, where
        it does not, and in true drawings (by the examiner's mistake)."""
        material = self.material
        removable = find_removable(material.cases[:count], material.truth)
        chosen, names = list(removable), list(removable.values())
        if not chosen:
            return {"with_negative_prompt": None, "without": None, "truth": None}
        words = [getattr(material.cases[index].character, name) for index, name in removable.items()]
        requests = (
            self.ask(index, condition, negative_prompt=word)
            for index, word in zip(chosen, words, strict=True)
        )
        named = self._examine_pictures(self._draw(requests), chosen)
        return {
            "with_negative_prompt": measure_removals(named, names),
            "without": measure_removals(self._examine(condition, count)[numpy.array(chosen)], names),
            "truth": measure_removals(material.right[numpy.array(chosen)], names),
        }

    def draw_cases(self, condition: Condition, count: int) -> Iterator[Image.Image]:
        """The pictures of the first cases."""
        return self._draw(self.ask(index, condition) for index in range(count))

    def ask(
        self, index: int, condition: Condition, *, candidate: int = 0, negative_prompt: str = ""
    ) -> DrawRequest:
        """What the engine is asked for: that candidate of a case under a condition."""
        case = self.material.cases[index]
        prompts = {"direction": case.direction, "full": case.prompt, "order": case.order, "none": ""}
        references = [case.draw_reference(number) for number in range(condition.references)]
        return DrawRequest(
            prompt=prompts[condition.prompt],
            negative_prompt=negative_prompt,
            references=references or [_NO_REFERENCE],
            width=SIDE,
            height=SIDE,
            seed=choose_candidate_seed(case.number, candidate),
            steps=condition.steps,
            guidance_scale=condition.guidance_scale,
            # Nothing to be seen is no pose at all; without a skeleton the engine takes its usual one.
            skeleton=self.material.truth.skeletons[index] if condition.posed else numpy.zeros((18, 3)),
        )

    def _draw(self, requests: Iterator[DrawRequest]) -> Iterator[Image.Image]:
        while some := list(islice(requests, _AT_ONCE)):
            yield from self.artist.draw(some)

    def _choose_best(self, condition: Condition, count: int, candidates: int) -> Iterator[Image.Image]:
        for index in range(count):
            requests = [self.ask(index, condition, candidate=number) for number in range(candidates)]
            pictures = self.artist.draw(requests)
            scores = [self.artist.score(*one) for one in zip(requests, pictures, strict=True)]
            yield pictures[scores.index(max(scores))]

    def _examine(self, condition: Condition, count: int) -> Examined:
        """What is read of the first cases drawn under a condition."""
        if len(self._read.get(condition, ())) < count:
            self._read[condition] = self._examine_pictures(self.draw_cases(condition, count))
        return self._read[condition][:count]

    def _examine_pictures(
        self, pictures: Iterator[Image.Image], chosen: Sequence[int] | None = None
    ) -> Examined:
        """What is read of pictures of the chosen cases, or else of the first."""
        skeletons = self.material.truth.skeletons
        posed = skeletons if chosen is None else [skeletons[index] for index in chosen]
        # Of skeletons there may be more: those of cases that are not drawn.
        return examine(self._instruments, zip(pictures, posed, strict=False))

    @cached_property
    def _reconstructed(self) -> Examined:
        cases = self.material.cases
        return self._examine_pictures(self.artist.reconstruct(case.draw_truth()) for case in cases)

    def _mark(self, read: Examined) -> dict[str, Marks]:
        """What the product promises, of each of the first cases."""
        truth = self.material.truth[: len(read)]
        return {
            "identity": mark_identity(read, self.material.crowds[: len(read)]),
            "attributes": mark_attributes(read, truth),
            "pose": mark_pose(read, truth),
        }

    def _measure(self, read: Examined) -> Results:
        marks, right = self._mark(read), self.material.right[: len(read)]
        return {
            "identity": measure_share(marks["identity"].values),
            "attributes": measure_marks(marks["attributes"]),
            "pose": measure_marks(marks["pose"]),
            **measure_answers(read, self.material.truth[: len(read)]),
            "sharpness": measure_mean(read.sharpness / right.sharpness),
        }

    def _compare(self, first: Examined, second: Examined) -> Results:
        marks, others = self._mark(first), self._mark(second)
        return {name: measure_difference(marks[name], others[name]) for name in marks}

    def _measure_frechet(self, read: Examined) -> Figure:
        features, others = self._standardize(read), self._standardize(self.material.strangers)

        def measure(chosen: NDArray[numpy.int64]) -> float:
            return measure_frechet(_spread(features[chosen]), _spread(others))

        return bootstrap(measure, len(read), _RESAMPLES)

    def _compare_excess(self, read: Examined) -> Callable[[NDArray[numpy.int64]], float]:
        """What `compare_excess` gives for chosen ones of pictures of the first cases."""
        examined = (read, self._reconstructed, self.material.right)
        features = [self._standardize(one) for one in examined]
        others = _spread(self._standardize(self.material.strangers))
        return lambda chosen: compare_excess(*(_spread(one[chosen]) for one in features), others)

    def _standardize(self, read: Examined) -> NDArray[numpy.float64]:
        return standardize(read.features, _spread(self.material.strangers.features))

    def _measure_obedience(self, read: Examined) -> Results:
        count = len(read)
        cases = self.material.cases[:count]
        return measure_obedience(read, cases, tell_truth(cases, changed=True), self.material.truth[:count])


def _spread(features: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """The features (n, PIECES, channels) of pictures as those of their pieces, (n * PIECES, channels)."""
    return features.reshape(-1, features.shape[-1])


def blur_slightly(picture: Image.Image) -> Image.Image:
    """The picture blurred by `BLUR_PIXELS`."""
    return picture.filter(ImageFilter.GaussianBlur(BLUR_PIXELS))


def add_noise(picture: Image.Image) -> Image.Image:
    """The picture with noise of `NOISE_LEVELS`, always the same."""
    pixels = numpy.asarray(picture, float)
    noise = numpy.random.default_rng(0).normal(scale=NOISE_LEVELS, size=pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(numpy.uint8))


def _do_ahead(executor: Executor, do: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """What `do` makes of each item, in their order, a few of them made ahead: all of them would not
    fit into memory."""
    waiting = deque()
    for item in items:
        waiting.append(executor.submit(do, item))
        if len(waiting) >= _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
