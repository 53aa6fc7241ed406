"""The steps of a drawing: told to who waits for it, until nobody does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import OnStep
from .preview import Previewer


class AllCancelled(Exception):
    """Ends a drawing that nobody waits for any more."""


class Watch:
    """Tells the steps of pictures that are drawn together, and remembers which are still wanted."""

    def __init__(self, numbers: Sequence[int], on_step: OnStep) -> None:
        """`numbers` are what `on_step` calls the pictures."""
        self.wanted = [True] * len(numbers)
        self._numbers = numbers
        self._on_step = on_step

    def report_steps(self, pipeline: Any, previewer: Previewer) -> Callable[..., dict[str, Any]]:
        """What a diffusers pipeline calls after each step (`callback_on_step_end`).

        It raises `AllCancelled` when no picture is wanted any more.
        """

        def report(_: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            step, steps = index + 1, pipeline.num_timesteps
            previews = previewer.show(step, steps, tensors["latents"]) or [None] * len(self.wanted)
            for place, preview in enumerate(previews):
                if self.wanted[place]:
                    self.wanted[place] = self._on_step(self._numbers[place], step, steps, preview)
            if not any(self.wanted):
                raise AllCancelled
            return tensors

        return report
