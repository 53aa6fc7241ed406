"""The steps of a drawing: told to who waits for it, until nobody does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

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

    def report_steps(
        self, previewer: Previewer | None = None, before: int = 0, after: int = 0
    ) -> Callable[..., dict[str, Any]]:
        """What a diffusers pipeline calls after each step (`callback_on_step_end`).

        It raises `AllCancelled` when no picture is wanted any more. `before` and `after` are the steps
        of the drawing that the pipeline does not make this time.
        """

        def report(pipeline: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            step, steps = index + 1, pipeline.num_timesteps
            shown = previewer.show(step, steps, tensors["latents"]) if previewer else None
            self.tell(before + step, before + steps + after, shown)
            if not any(self.wanted):
                raise AllCancelled
            return tensors

        return report

    def tell(
        self,
        step: int,
        steps: int,
        previews: Sequence[Image.Image] | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        """Tell a step of every picture, or of those in `places`, that is still wanted."""
        for place in range(len(self.wanted)) if places is None else places:
            if self.wanted[place]:
                preview = previews[place] if previews else None
                self.wanted[place] = self._on_step(self._numbers[place], step, steps, preview)

    def divide(self, places: Sequence[int]) -> Watch:
        """Another, of some of the pictures alone."""
        return Watch([self._numbers[place] for place in places], self._on_step)
