"""The null engine: answers at once with flat pictures. For tests and for measuring the service."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from . import DrawRequest, DrawResult, OnStep


class NullEngine:
    """Draws one colour, taken from the seed, in one step; scores nothing."""

    name = "null"
    version = "1"
    device = "cpu"
    batch_size = 64
    scores_likeness = False
    detector = None

    def draw(self, requests: Sequence[DrawRequest], on_step: OnStep) -> list[DrawResult | None]:
        """A picture of one colour for each request; None where `on_step` answered False."""
        return [
            DrawResult(picture=_paint(request)) if on_step(index, 1, 1, None) else None
            for index, request in enumerate(requests)
        ]

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float | None:
        """None: a flat picture has no character in it."""
        return None


def _paint(request: DrawRequest) -> Image.Image:
    colour = tuple((request.seed >> shift) & 0xFF for shift in (16, 8, 0))
    return Image.new("RGB", (request.width, request.height), colour)
