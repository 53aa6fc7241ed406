"""The device that an engine draws on, and how torch is to work there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import diffusers
import torch
import transformers

from ..settings import Settings
from . import EngineError


def choose_device(wanted: str) -> str:
    """The torch device for a setting's words: `auto` takes the best that is there.

    Raises:
        EngineError: the device is not there.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError):
        raise EngineError(
            "The device of UNDERSTUDY_DEVICE is not available here; set it to auto or cpu.",
            code="engine_load_failed",
        ) from None
    return wanted


def count_cores(settings: Settings) -> int:
    """The cores for one worker: those of this process, shared among the workers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // settings.devices)


def prepare_torch(threads: int) -> None:
    """Choose repeatable kernels, `threads` for each operation, and silence the libraries.

    The libraries' warnings would quote prompts into the log.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


@contextmanager
def torch_for_drawing(threads: int) -> Iterator[None]:
    """`threads` for each operation, and denormal numbers taken for zero, which is much faster.

    In this thread, and only for now: another engine that is loaded changes neither speed nor
    rounding of this one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
