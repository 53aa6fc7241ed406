"""The null engine: answers at once with a flat picture. For tests and for measuring the service."""

from __future__ import annotations

from PIL import Image

from . import Cancelled, DrawRequest, DrawResult, OnStep


class NullEngine:
    """Draws one colour, taken from the seed, in one step; scores nothing."""

    name = "null"
    version = "1"
    device = "cpu"
    batch_size = 64

    def draw(self, request: DrawRequest, on_step: OnStep) -> DrawResult:
        """A picture of one colour.

        Raises:
            Cancelled: `on_step` answered False.
        """
        colour = tuple((request.seed >> shift) & 0xFF for shift in (16, 8, 0))
        picture = Image.new("RGB", (request.width, request.height), colour)
        if not on_step(1, 1, None):
            raise Cancelled
        return DrawResult(picture=picture)

    def score_likeness(self, reference: Image.Image, picture: Image.Image) -> float | None:
        """None: a flat picture has no character in it."""
        return None
