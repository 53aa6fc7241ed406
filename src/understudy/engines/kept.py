"""Results that are kept by the content of what they were computed from."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from PIL import Image

T = TypeVar("T")


class Kept:
    """The results that were used last, at most `most` of them.

    A kept result is the very one that was computed, so it changes no pixel.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave for this key, now or before."""
        if key not in self._results:
            self._results[key] = make()
        self._results.move_to_end(key)
        while len(self._results) > self._most:
            self._results.popitem(last=False)
        return self._results[key]

    def clear(self) -> None:
        """Let go of everything."""
        self._results.clear()


def digest_content(picture: Image.Image | torch.Tensor) -> tuple[Hashable, ...]:
    """A key of a picture's or a tensor's content: its form and the SHA-256 of its numbers."""
    if isinstance(picture, Image.Image):
        return picture.mode, picture.size, hashlib.sha256(picture.tobytes()).digest()
    numbers = picture.detach().cpu().contiguous().view(torch.uint8).numpy()
    return picture.dtype, tuple(picture.shape), hashlib.sha256(numbers).digest()
