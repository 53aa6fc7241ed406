"""How a failure to load weights is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import EngineError

logger = logging.getLogger(__name__)


@contextmanager
def loading(part: str, setting: str | None = None) -> Iterator[None]:
    """Whatever fails within is told with the setting to look at; without one it is the installed
    distribution that is broken.

    Raises:
        EngineError: something did (`engine_load_failed`); the log tells what the library said.
    """
    try:
        yield
    except Exception as error:
        logger.warning("loading the %s failed: %s", part, error, exc_info=error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            message = f"There is not enough memory to load the {part}; choose a smaller model or device."
        elif setting is None:
            message = (
                f"The {part} could not be loaded; install understudy-toon anew (the worker's log tells more)."
            )
        else:
            message = (
                f"The {part} could not be loaded; check that {setting} names a whole folder or hub id "
                "in the diffusers layout, and that a hub id was downloaded before or can be now "
                "(the worker's log tells more)."
            )
        raise EngineError(message, code="engine_load_failed") from error
