"""The engines that one worker has loaded: so many stay, and who was used longest ago leaves for another."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from ..settings import Settings
from . import Engine, EngineError, load_engine

logger = logging.getLogger(__name__)

FAILED_SECONDS = 60.0
"""How long a load that failed is not tried again: engines that work had to leave for each attempt."""


class EngineShelf:
    """At most `most` engines by name, loaded when they are first taken.

    Whoever takes an engine holds it no longer than until the next is taken, or its memory cannot be
    given back.
    """

    def __init__(self, first: str, load: Callable[[str], Engine], most: int = 1) -> None:
        """`load` loads the engine of a name, `first` is the one of a task that names none."""
        self.first = first
        self._load = load
        self._most = most
        # The one that was used last is the last.
        self._engines: dict[str, Engine] = {}
        self._failures: dict[str, tuple[float, str, str]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> EngineShelf:
        """An empty shelf for the engines that the settings name."""
        return cls(
            settings.engine, lambda name: load_engine(settings.lead_with(name)), settings.resident_engines
        )

    @classmethod
    def holding(cls, engine: Engine) -> EngineShelf:
        """A shelf with one engine, which is already loaded, and no other."""
        shelf = cls(engine.name, lambda name: engine)
        shelf._engines[engine.name] = engine
        return shelf

    @property
    def names(self) -> list[str]:
        """The engines that are loaded, the one that was used last at the end."""
        return list(self._engines)

    def take(self, name: str, on_load: Callable[[], None] | None = None) -> Engine:
        """The engine of a name, loaded if it is not; others leave first where there are too many.

        `on_load` is called when they have left and the load begins.

        Raises:
            EngineError: it cannot be loaded. For a minute it is told again without another attempt, and
                nothing leaves for it.
        """
        engine = self._engines.pop(name, None)
        if engine is None:
            failed_at, message, code = self._failures.get(name, (-math.inf, "", ""))
            if time.monotonic() - failed_at < FAILED_SECONDS:
                raise EngineError(message, code)
            while len(self._engines) >= self._most:
                del self._engines[next(iter(self._engines))]
            _give_memory_back()
            if on_load is not None:
                on_load()
            engine = self._try_to_load(name)
        self._engines[name] = engine
        return engine

    def _try_to_load(self, name: str) -> Engine:
        message, code = "The engine could not be loaded; the worker's log tells why.", "engine_load_failed"
        try:
            return self._load(name)
        except EngineError as error:
            message, code = error.message, error.code
        except Exception as error:
            logger.error("the engine %s could not be loaded", name, exc_info=error)
        # Only now, for the error holds on to all that was loaded by then.
        _give_memory_back()
        self._failures[name] = (time.monotonic(), message, code)
        raise EngineError(message, code)


def _give_memory_back() -> None:
    """Give what nothing refers to any more back to the device and to the operating system."""
    # Pipelines and their hooks refer to each other in circles.
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        # Weights that waited beside the GPU lay in pinned memory, which torch keeps too.
        torch.accelerator.empty_host_cache()
    elif torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    # Of glibc alone: free memory between two blocks that are in use stays with the process otherwise.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
