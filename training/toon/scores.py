"""How good the product's own scores are: the likeness and the pose that it tells of each picture.

It chooses the best of several pictures by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy
from numpy.typing import NDArray
from PIL import Image

from understudy.pose.scores import score_pck
from understudy.pose.skeleton import Skeleton

from .artist import Artist
from .cases import ALIKE, Case, draw_crowd
from .figures import Figure, measure_mean, measure_share


def measure_likeness(artist: Artist, cases: Sequence[Case]) -> dict[str, Figure | None]:
    """The likeness of each case's reference to the true drawings of its crowd; see `tell_likeness`."""
    rows = []
    for case in cases:
        reference = [case.draw_reference()]
        crowd = (Image.fromarray(picture) for picture in draw_crowd(case))
        rows.append([artist.score_likeness(reference, picture) for picture in crowd])
    return tell_likeness(numpy.array(rows))


def tell_likeness(likeness: NDArray[numpy.float64], alike: int = ALIKE) -> dict[str, Figure | None]:
    """Figures of the likeness (cases, others) to oneself, to those `alike`, and to strangers.

    own, alike, strangers  the means
    above_alike            how often it is higher for oneself than for one who is alike
    above_strangers        the same of strangers
    above_all              how often it is higher than for all others
    """
    own, near, far = likeness[:, :1], likeness[:, 1 : 1 + alike], likeness[:, 1 + alike :]
    return {
        "own": measure_mean(own[:, 0]),
        "alike": measure_mean(near.mean(axis=1)),
        "strangers": measure_mean(far.mean(axis=1)),
        "above_alike": measure_mean((own > near).mean(axis=1)),
        "above_strangers": measure_mean((own > far).mean(axis=1)),
        "above_all": measure_share((own > likeness[:, 1:]).all(axis=1)),
    }


def measure_drawn_likeness(
    artist: Artist, cases: Sequence[Case], pictures: Iterable[Image.Image]
) -> dict[str, Figure | None]:
    """The likeness of what was drawn for cases, two or more, to its own reference and to that of the
    next case, and how often it is higher for its own."""
    references = [case.draw_reference() for case in cases]
    own, other = [], []
    for index, picture in enumerate(pictures):
        next_one = references[(index + 1) % len(references)]
        own.append(artist.score_likeness([references[index]], picture))
        other.append(artist.score_likeness([next_one], picture))
    higher = numpy.array(own) > numpy.array(other)
    return {"own": measure_mean(own), "other": measure_mean(other), "above_other": measure_share(higher)}


def measure_detector(
    artist: Artist, pictures: Iterable[Image.Image], skeletons: Sequence[Skeleton]
) -> dict[str, Figure | None]:
    """How well the checkpoint's detector finds skeletons: PCK@0.1 and @0.05 of the torso's length, and
    how often it finds somebody at all; one who is not found scores 0."""
    found = [artist.find_skeleton(picture) for picture in pictures]
    return {
        **{
            f"pck_{threshold}": measure_mean(
                [
                    0.0 if one is None else score_pck(one, skeleton, threshold)
                    for one, skeleton in zip(found, skeletons, strict=True)
                ]
            )
            for threshold in (0.1, 0.05)
        },
        "found": measure_share([one is not None for one in found]),
    }
