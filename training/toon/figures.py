"""What an evaluation tells: figures with their intervals, and how each is computed.

Knows numbers and pictures as arrays; nothing of characters, networks or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import ArrayLike, NDArray

_CONFIDENT = 1.959964
"""How many standard deviations to each side hold 95 % of a normal distribution."""
_RESAMPLES = 1000
_LEAST_SPREAD = 1e-6
_LEAST_EXCESS = 1e-6
"""Of the floor: an excess of reconstructions below it is none."""

LEAST_CONTRAST = 0.2
"""From which difference of lightness, 0 to 1, on two sides count as an edge."""
EDGE_REACH = 4
"""How far to each side of an edge its two sides are looked for, in pixels."""
_WINDOW = 2 * EDGE_REACH + 1


@dataclass(frozen=True)
class Figure:
    """A measured value, the 95 % interval that it lies in, and how many pictures it comes from."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Marks:
    """What each of n pictures gets, and how much that counts: (n,) each."""

    values: NDArray[numpy.float64]
    weights: NDArray[numpy.float64]


def measure_share(successes: ArrayLike) -> Figure | None:
    """The share of successes among independent pictures, with Wilson's interval (E. B. Wilson,
    "Probable inference", JASA 1927); None for no pictures."""
    values = numpy.asarray(successes, float)
    count = len(values)
    if not count:
        return None
    share, spread = float(values.mean()), _CONFIDENT**2 / count
    middle = (share + spread / 2) / (1 + spread)
    reach = _CONFIDENT * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return Figure(share, max(0.0, middle - reach), min(1.0, middle + reach), count)


def measure_mean(values: ArrayLike, weights: ArrayLike | None = None) -> Figure | None:
    """The mean of one value a picture, weighted where there are weights, with the interval of its
    bootstrap (B. Efron, "Bootstrap methods", 1979); None where nothing has weight."""
    values = numpy.asarray(values, float)
    weights = numpy.ones(len(values)) if weights is None else numpy.asarray(weights, float)
    counted = weights > 0
    values, weights = values[counted], weights[counted]
    if not len(values):
        return None
    draws = numpy.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    means = (values * weights)[draws].sum(axis=1) / weights[draws].sum(axis=1)
    low, high = numpy.quantile(means, (0.025, 0.975))
    return Figure(float(numpy.average(values, weights=weights)), float(low), float(high), len(values))


def measure_difference(first: Marks, second: Marks) -> Figure | None:
    """By how much the mean of the first marks is above that of the second, pictures of the same cases;
    with the interval of the bootstrap that draws cases, so that what is hard in both counts in both.

    Only cases count that have weight in both; None where there is none.
    """
    shared = (first.weights > 0) & (second.weights > 0)
    if not shared.any():
        return None
    marks = [Marks(one.values[shared], one.weights[shared]) for one in (first, second)]
    count = int(shared.sum())
    draws = numpy.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    resampled, whole = (
        [(one.values * one.weights)[rows].sum(axis=-1) / one.weights[rows].sum(axis=-1) for one in marks]
        for rows in (draws, numpy.arange(count))
    )
    low, high = numpy.quantile(resampled[0] - resampled[1], (0.025, 0.975))
    return Figure(float(whole[0] - whole[1]), float(low), float(high), count)


def bootstrap(measure: Callable[[NDArray[numpy.int64]], float], count: int, resamples: int) -> Figure:
    """What `measure` gives for all of `count` pictures, and the interval of what it gives for as many
    drawn from them with replacement, always the same draws.

    The interval is moved by how far the mean of the draws is from the whole: that doubles are drawn
    makes distances larger.
    """
    rng = numpy.random.default_rng(0)
    values = numpy.array([measure(rng.integers(count, size=count)) for _ in range(resamples)])
    value = measure(numpy.arange(count))
    low, high = numpy.quantile(values, (0.025, 0.975)) + value - values.mean()
    return Figure(value, float(low), float(high), count)


def measure_frechet(first: NDArray[numpy.float64], second: NDArray[numpy.float64]) -> float:
    """The Frechet distance of two sets of features (n, channels), taken for normal distributions.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau, 1982), as Heusel et al. (arXiv
    1706.08500) compare pictures.
    """
    means = first.mean(axis=0), second.mean(axis=0)
    covariances = numpy.cov(first, rowvar=False), numpy.cov(second, rowvar=False)
    # The roots of C1 C2 are those of the symmetric C1^(1/2) C2 C1^(1/2).
    values, vectors = numpy.linalg.eigh(covariances[0])
    root = (vectors * numpy.sqrt(values.clip(min=0))) @ vectors.T
    shared = numpy.linalg.eigvalsh(root @ covariances[1] @ root)
    apart = float(numpy.square(means[0] - means[1]).sum())
    spread = float(numpy.trace(covariances[0]) + numpy.trace(covariances[1]))
    return apart + spread - 2 * float(numpy.sqrt(shared.clip(min=0)).sum())


def standardize(features: NDArray[numpy.float64], others: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """Features (..., channels) in standard deviations of those of others (n, channels), so that each
    channel counts alike; one that never changes there does not count."""
    spread = others.std(axis=0)
    return features / numpy.where(spread > _LEAST_SPREAD, spread, numpy.inf)


def compare_excess(
    drawn: NDArray[numpy.float64],
    reconstructed: NDArray[numpy.float64],
    true: NDArray[numpy.float64],
    others: NDArray[numpy.float64],
) -> float:
    """How much further drawn pictures are from true ones than reconstructions are, 1 for as far.

    All distances are to true pictures of others, and what the true pictures of the same cases have
    is taken off both: it is what few pictures of other things cost, and no flaw. A flaw that is twice as
    large gives 2. Features are (n, channels); where reconstructions have no excess, it is beyond
    all bounds.
    """
    floor = measure_frechet(true, others)
    allowed = max(measure_frechet(reconstructed, others) - floor, _LEAST_EXCESS * floor)
    return (measure_frechet(drawn, others) - floor) / allowed


def measure_sharpness(picture: NDArray[numpy.uint8]) -> float:
    """How steep the edges of a picture (height, width, 3) are: the median, over the crests of all
    edges, of the gradient per pixel as a share of the difference of the edge's two sides.

    It is 0.5 for a step from one pixel to the next and about 1 / (s sqrt(2 pi)) for one that is
    blurred by s pixels, however strong its contrast; 0 for a picture without edges.
    """
    light = torch.from_numpy(numpy.array(picture)).float().mean(dim=2) / 255
    across = (light[1:-1, 2:] - light[1:-1, :-2]) / 2
    down = (light[2:, 1:-1] - light[:-2, 1:-1]) / 2
    steepness, light = torch.hypot(across, down), light[1:-1, 1:-1]
    contrast = _find_highest(light) + _find_highest(-light)
    inner = slice(EDGE_REACH, -EDGE_REACH)
    crests = (steepness[inner, inner] == _find_highest(steepness)) & (contrast > LEAST_CONTRAST)
    shares = steepness[inner, inner][crests] / contrast[crests]
    return float(shares.median()) if len(shares) else 0.0


def find_own(pictures: NDArray[numpy.float64], lineups: Sequence[NDArray[numpy.float64]]) -> NDArray:
    """Whether each picture's identity (n, width) is nearer to the first of its lineup (others, width)
    than to every other there; a draw is no find."""
    found = []
    for identity, lineup in zip(pictures, lineups, strict=True):
        cosines = lineup @ identity
        found.append(bool(cosines[0] > cosines[1:].max()))
    return numpy.array(found)


def _find_highest(values: torch.Tensor) -> torch.Tensor:
    """The highest of the values (height, width) within the reach of an edge, each way.

    The highest of 9 in a row is that of two overlapping 8, each that of two 4, and so on; it takes a
    tenth of the time of a pooling.
    """
    for axis in (0, 1):
        width = 1
        while 2 * width <= _WINDOW:
            values = torch.maximum(
                values.narrow(axis, 0, values.shape[axis] - width),
                values.narrow(axis, width, values.shape[axis] - width),
            )
            width *= 2
        last = _WINDOW - width
        values = torch.maximum(
            values.narrow(axis, 0, values.shape[axis] - last),
            values.narrow(axis, last, values.shape[axis] - last),
        )
    return values
