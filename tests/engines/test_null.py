from __future__ import annotations

import pytest

from understudy.engines import Cancelled, load_engine
from understudy.settings import Settings


@pytest.fixture
def null():
    return load_engine(Settings(engine="null"))


def test_a_flat_picture_of_the_seeds_colour(null, request_of):
    result = null.draw(request_of(width=333, height=517, seed=0x102030), lambda *step: True)
    assert result.picture.size == (333, 517)
    assert result.picture.getcolors() == [(333 * 517, (0x10, 0x20, 0x30))]
    assert null.score_likeness(result.picture, result.picture) is None


def test_one_step_that_can_be_cancelled(null, request_of):
    seen = []
    with pytest.raises(Cancelled):
        null.draw(request_of(), lambda *step: bool(seen.append(step)))
    assert seen == [(1, 1, None)]
