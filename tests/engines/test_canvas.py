from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from understudy.engines.canvas import choose_canvas, square_picture

SIDES = st.integers(256, 2048)


@pytest.mark.parametrize(
    ("size", "canvas"),
    [((1024, 1024), (1024, 1024)), ((1216, 832), (1216, 832)), ((2048, 2048), (1024, 1024))],
)
def test_a_size_that_the_model_draws_well_is_drawn_as_it_is(size, canvas):
    assert choose_canvas(*size, pixels=1024 * 1024, multiple=64) == canvas


@given(width=SIDES, height=SIDES)
@pytest.mark.parametrize(("side", "multiple", "bend"), [(128, 16, 0.07), (1024, 64, 0.04)])
def test_every_canvas_is_near_in_area_and_proportions(width, height, side, multiple, bend):
    across, down = choose_canvas(width, height, side * side, multiple)
    assert across % multiple == 0
    assert down % multiple == 0
    assert 0.7 < across * down / side**2 < 1.6
    assert abs(math.log((across / down) / (width / height))) < bend


def test_a_tall_reference_keeps_head_and_feet():
    picture = Image.new("RGB", (60, 200), (10, 200, 30))
    picture.paste((255, 0, 0), (20, 0, 40, 200))
    square = square_picture(picture)
    assert square.size == (200, 200)
    pixels = numpy.asarray(square)
    assert (pixels[0, 100] == (255, 0, 0)).all()
    assert (pixels[199, 100] == (255, 0, 0)).all()
    assert (pixels[:, :70] == (10, 200, 30)).all()


def test_a_square_reference_is_left_alone():
    picture = Image.new("RGB", (50, 50))
    assert square_picture(picture) is picture
