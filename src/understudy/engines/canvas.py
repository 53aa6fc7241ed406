"""The canvas that a model draws on, and pictures brought to the size that they need."""

from __future__ import annotations

import math
from functools import partial

import numpy
from PIL import Image

from .cores import Cores


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
    return pad_picture(picture, 1)


def pad_picture(picture: Image.Image, most_aspect: int) -> Image.Image:
    """The picture in the middle of one whose longer side is at most `most_aspect` times the shorter,
    padded with the colour of its own edge."""
    width, height = picture.size
    least = math.ceil(max(width, height) / most_aspect)
    size = (max(width, least), max(height, least))
    if picture.size == size:
        return picture
    pixels = numpy.asarray(picture.convert("RGB"))
    sides = (pixels[:, 0], pixels[:, -1]) if height > width else (pixels[0], pixels[-1])
    colour = tuple(int(value) for value in numpy.median(numpy.concatenate(sides), axis=0))
    padded = Image.new("RGB", size, colour)
    padded.paste(picture, ((size[0] - width) // 2, (size[1] - height) // 2))
    return padded


def fit_picture(picture: Image.Image, most_pixels: int, multiple: int, least_side: int) -> Image.Image:
    """The picture made smaller to an area of about `most_pixels`, its sides multiples of `multiple`.

    It is made larger only where a side would be below `least_side`.
    """
    shorter = min(picture.size)
    scale = min(1.0, math.sqrt(most_pixels / (picture.width * picture.height)))
    scale = max(scale, least_side / shorter)
    size = tuple(max(least_side, round(scale * side / multiple) * multiple) for side in picture.size)
    return resize_picture(picture, size)


def resize_picture(picture: Image.Image, size: tuple[int, int], cores: Cores | None = None) -> Image.Image:
    """The picture at a size, each core making a strip of it: the same pixels as in one piece."""
    if picture.size == size:
        return picture
    if cores is None or picture.height % cores.count or size[1] % cores.count:
        return picture.resize(size, Image.Resampling.LANCZOS)
    have, want = picture.height // cores.count, size[1] // cores.count

    def make_strip(number: int) -> Image.Image:
        box = (0, number * have, picture.width, (number + 1) * have)
        return picture.resize((size[0], want), Image.Resampling.LANCZOS, box)

    whole = Image.new(picture.mode, size)
    strips = cores.do([partial(make_strip, number) for number in range(cores.count)])
    for number, strip in enumerate(strips):
        whole.paste(strip, (0, number * want))
    return whole
