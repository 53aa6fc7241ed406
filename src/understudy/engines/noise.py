"""The noise that a picture begins with, by its seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch


def seed_noise(seed: int | Sequence[int], shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Generator]:
    """Normal noise (float32, on the CPU), and the generator of what a scheduler adds on its way.

    torch's generator reads 32 bits of a seed only, so seeds that differ by a multiple of
    2**32 would draw the same picture; NumPy's reads them all, and gives every device the
    same noise. Several numbers are one seed, of noise that has nothing in common with that of the first.
    """
    source = numpy.random.default_rng(seed)
    noise = torch.from_numpy(source.standard_normal(shape, dtype=numpy.float32))
    return noise, torch.Generator().manual_seed(int(source.integers(2**32)))
