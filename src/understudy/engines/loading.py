"""How a failure to load weights is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..settings import Lora, Settings
from ..weights import WeightsMissing, find_folder, find_lora
from . import EngineError

logger = logging.getLogger(__name__)


def locate(settings: Settings, setting: str, engine: str) -> str:
    """The folder of the weights that a setting of an engine names; nothing is downloaded.

    Raises:
        EngineError: they are not on this machine (`engine_load_failed`).
    """
    try:
        return str(find_folder(settings, setting, engine))
    except WeightsMissing as error:
        raise EngineError(error.message, code="engine_load_failed") from None


def locate_lora(settings: Settings, lora: Lora) -> Path:
    """The file of a LoRA; nothing is downloaded.

    Raises:
        EngineError: it is not on this machine (`engine_load_failed`).
    """
    try:
        return find_lora(settings, lora)
    except WeightsMissing as error:
        raise EngineError(error.message, code="engine_load_failed") from None


@contextmanager
def loading(
    part: str,
    setting: str | None = None,
    wanted: str = "a whole folder or hub id in the diffusers layout",
) -> Iterator[None]:
    """Whatever fails within is told with the setting to look at and what is `wanted` there; without one it
    is the installed distribution that is broken.

    Raises:
        EngineError: something did (`engine_load_failed`); the log tells what the library said. One that
            was raised within is not told anew.
    """
    try:
        yield
    except EngineError:
        raise
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
                f"The {part} could not be loaded; check that {setting} names {wanted} "
                "(the worker's log tells more)."
            )
        raise EngineError(message, code="engine_load_failed") from error
