"""The canvas that a model draws on: its size for an asked size, and a reference fitted to a square."""

from __future__ import annotations

import math

import numpy
from PIL import Image


def choose_canvas(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """The model's canvas for an asked size: (width, height), both multiples of `multiple`.

    Its area is as near to `pixels` and its proportions are as near to the asked ones as the
    multiples allow; wrong proportions count ten times as much as a wrong area, since the
    picture is stretched to the asked size in the end.
    """
    aspect = width / height

    def measure_error(canvas: tuple[int, int]) -> float:
        area_error = abs(math.log(canvas[0] * canvas[1] / pixels))
        aspect_error = abs(math.log(canvas[0] / canvas[1] / aspect))
        return 10 * aspect_error + area_error

    widest = math.ceil(2 * math.sqrt(pixels * aspect) / multiple)
    widths = [columns * multiple for columns in range(1, widest + 1)]
    heights = [max(1, round(side / aspect / multiple)) * multiple for side in widths]
    return min(zip(widths, heights, strict=True), key=measure_error)


def square_picture(picture: Image.Image) -> Image.Image:
    """The picture in the middle of a square, padded with the colour of its own edge.

    An image encoder crops to the middle square, which would cut head and feet off a tall
    figure; padding keeps the whole figure.
    """
    width, height = picture.size
    if width == height:
        return picture
    pixels = numpy.asarray(picture.convert("RGB"))
    sides = (pixels[:, 0], pixels[:, -1]) if height > width else (pixels[0], pixels[-1])
    colour = tuple(int(value) for value in numpy.median(numpy.concatenate(sides), axis=0))
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square
