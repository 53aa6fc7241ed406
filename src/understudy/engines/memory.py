"""Running out of memory, told as one error whatever ran out."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import EngineError

logger = logging.getLogger(__name__)


@contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Turn every way of running out of memory into one error, and give the device's cache back.

    Raises:
        EngineError: the memory does not suffice (`out_of_memory`).
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's CPU allocator and some CUDA libraries raise a plain RuntimeError.
        words = str(error).lower()
        ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            sign in words for sign in ("out of memory", "can't allocate memory", "alloc_failed")
        )
        if not ran_out:
            raise
        logger.warning("out of memory while drawing")
        # What they were working on would be held by the error, and the next attempt would find no more room.
        traceback.clear_frames(error.__traceback__)
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise EngineError(
        "There was not enough memory to draw this picture; ask for a smaller width and height, "
        "or give the engine a larger device.",
        code="out_of_memory",
    )
