"""An evaluation: what a model is asked to draw of held-out cases, and the figures of what it drew.

Everything is measured in the same way: what the whole model drew, what it drew with something left
out, the references as they are, and the true drawings, which tell how good the examiner is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray
from PIL import Image

from understudy.engines import DrawRequest

from .artist import Artist, tell_seconds
from .cases import SIDE, Case, draw_lineup, draw_stranger, make_case
from .examination import (
    Examined,
    Truth,
    examine,
    find_removable,
    identify,
    measure_attributes,
    measure_identity,
    measure_orders,
    measure_pose,
    measure_removals,
    tell_truth,
)
from .examiner import Examiner
from .figures import Figure, bootstrap, measure_frechet, measure_mean

Figures = dict[str, Figure | None]

_NO_REFERENCE = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
"""The grey that an image encoder sees as zeros: in training that is what no reference is."""
_RESAMPLES = 200
_AT_ONCE = 16


@dataclass(frozen=True)
class Condition:
    """What a model is given of a case; `prompt` is `full`, `order` or `none`."""

    prompt: str = "full"
    reference: bool = True
    posed: bool = True
    steps: int = 10
    guidance_scale: float = 3.0


@dataclass(frozen=True)
class Material:
    """Cases and all that is known of them; nothing of it depends on a model.

    `lineups` are the identities (50, width) of each case's lineup; `right` is what is read of the
    true drawings, `strangers` of true drawings of others.
    """

    cases: list[Case]
    truth: Truth
    lineups: list[NDArray[numpy.float64]]
    right: Examined
    strangers: Examined


def prepare_material(examiner: Examiner, count: int, strangers: int, executor: Executor) -> Material:
    """Make `count` cases and draw what they are measured against, in the executor's processes."""
    cases = list(executor.map(make_case, range(count), chunksize=4))
    return Material(
        cases=cases,
        truth=tell_truth(cases),
        lineups=[identify(examiner, lineup) for lineup in executor.map(draw_lineup, cases)],
        right=examine(examiner, executor.map(Case.draw_truth, cases, chunksize=4)),
        strangers=examine(examiner, executor.map(draw_stranger, range(strangers), chunksize=4)),
    )


class Evaluation:
    """Measures what one model draws of the material's cases; the first cases where few are enough."""

    def __init__(self, examiner: Examiner, artist: Artist, material: Material) -> None:
        self._examiner, self._artist, self.material = examiner, artist, material
        self._read: dict[tuple[Condition, int], tuple[Examined, list[float]]] = {}

    def measure_bounds(self) -> dict[str, Figures]:
        """Between what a model's figures lie: the true drawings, these through the autoencoder alone,
        and the references pasted as they are."""
        copied = examine(self._examiner, (case.draw_reference() for case in self.material.cases))
        return {
            "truth": self._measure(self.material.right),
            "reconstruction": self._measure(self._reconstructed),
            "copy": self._measure(copied),
        }

    def measure_drawn(self, condition: Condition, count: int) -> Figures:
        """The figures of `count` pictures, and the seconds that each took."""
        read, seconds = self._examine(condition, count)
        return self._measure(read) | {"seconds": measure_mean(seconds)}

    def compare_cleanliness(self, condition: Condition) -> Figure:
        """The Frechet distance of drawn pictures to true ones, as a multiple of that of the
        autoencoder's own reconstructions."""
        drawn = self._examine(condition, len(self.material.cases))[0].features
        reconstructed, true = self._reconstructed.features, self.material.strangers.features

        def compare(chosen: NDArray[numpy.int64]) -> float:
            own = measure_frechet(drawn[chosen], true)
            return own / measure_frechet(reconstructed[chosen], true)

        return bootstrap(compare, len(drawn), _RESAMPLES)

    def measure_orders(self, condition: Condition, count: int) -> Figures:
        """How far the orders of cases are followed where a model is given that; see `examination`."""
        return self._measure_orders(self._examine(condition, count)[0])

    def measure_orders_on_truth(self, count: int) -> Figures:
        """The same of true drawings of what is ordered."""
        cases = self.material.cases[:count]
        pictures = (case.draw_truth(changed=True) for case in cases)
        return self._measure_orders(examine(self._examiner, pictures))

    def measure_negatives(self, condition: Condition, count: int) -> dict[str, Figure | None]:
        """How often a thing that the reference has is lacking: where the negative prompt names it, where
        it does not, and in true drawings (by the examiner's mistake)."""
        material = self.material
        removable = find_removable(material.cases[:count], material.truth)
        chosen, names = list(removable), list(removable.values())
        if not chosen:
            return {"with_negative_prompt": None, "without": None, "truth": None}
        words = [getattr(material.cases[index].character, name) for index, name in removable.items()]
        named = examine(self._examiner, self._draw(condition, chosen, negative_prompts=words))
        unnamed, _ = self._examine(condition, count)
        return {
            "with_negative_prompt": measure_removals(named, names),
            "without": measure_removals(unnamed[numpy.array(chosen)], names),
            "truth": measure_removals(material.right[numpy.array(chosen)], names),
        }

    def draw_case(self, index: int, condition: Condition) -> Image.Image:
        """The picture of one case."""
        return next(self._draw(condition, [index]))

    def _examine(self, condition: Condition, count: int) -> tuple[Examined, list[float]]:
        """What is read of the first cases drawn under a condition, and the seconds that each took."""
        if (condition, count) not in self._read:
            seconds: list[float] = []
            read = examine(self._examiner, self._draw(condition, range(count), seconds))
            self._read[condition, count] = read, seconds
        return self._read[condition, count]

    def _draw(
        self,
        condition: Condition,
        indices: Sequence[int],
        seconds: list[float] | None = None,
        negative_prompts: Sequence[str] | None = None,
    ) -> Iterator[Image.Image]:
        """The pictures of cases; `seconds` gets how long each took."""
        negatives = negative_prompts or [""] * len(indices)
        for start in range(0, len(indices), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            requests = [
                self._ask(index, condition, negative)
                for index, negative in zip(indices[piece], negatives[piece], strict=True)
            ]
            for picture in self._artist.draw(requests):
                if seconds is not None:
                    seconds.append(tell_seconds(picture))
                yield picture

    def _ask(self, index: int, condition: Condition, negative_prompt: str) -> DrawRequest:
        case = self.material.cases[index]
        return DrawRequest(
            prompt={"full": case.prompt, "order": case.order, "none": ""}[condition.prompt],
            negative_prompt=negative_prompt,
            references=[case.draw_reference() if condition.reference else _NO_REFERENCE],
            width=SIDE,
            height=SIDE,
            seed=case.number,
            steps=condition.steps,
            guidance_scale=condition.guidance_scale,
            skeleton=self.material.truth.skeletons[index] if condition.posed else None,
        )

    @cached_property
    def _reconstructed(self) -> Examined:
        pictures = (self._artist.reconstruct(case.draw_truth()) for case in self.material.cases)
        return examine(self._examiner, pictures)

    def _measure(self, read: Examined) -> Figures:
        """The figures of pictures of the first cases; a Frechet distance only where there are all."""
        material, count = self.material, len(read)
        truth = material.truth[:count]
        figures = {
            "identity": measure_identity(read, material.lineups[:count]),
            **measure_attributes(read, truth),
            "pose": measure_pose(read, truth),
            "sharpness": measure_mean(read.sharpness / material.right.sharpness[:count]),
        }
        if count == len(material.cases):
            true = material.strangers.features
            figures["frechet"] = bootstrap(
                lambda chosen: measure_frechet(read.features[chosen], true), count, _RESAMPLES
            )
        return figures

    def _measure_orders(self, read: Examined) -> Figures:
        count = len(read)
        cases = self.material.cases[:count]
        return measure_orders(read, cases, tell_truth(cases, changed=True), self.material.truth[:count])
