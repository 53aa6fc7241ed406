from __future__ import annotations

import pytest

from understudy.engines import load_engine
from understudy.settings import Settings


@pytest.fixture
def null():
    return load_engine(Settings(engine="null"))


def test_flat_pictures_of_the_seeds_colours(null, request_of):
    requests = [request_of(width=333, height=517, seed=seed) for seed in (0x102030, 0x405060)]
    first, second = (result.picture for result in null.draw(requests, lambda *step: True))
    assert first.size == (333, 517)
    assert first.getcolors() == [(333 * 517, (0x10, 0x20, 0x30))]
    assert second.getcolors() == [(333 * 517, (0x40, 0x50, 0x60))]
    assert null.score_likeness([first], second) is None


def test_one_step_that_can_be_cancelled(null, request_of):
    seen = []

    def only_second(*step):
        seen.append(step)
        return step[0] == 1

    results = null.draw([request_of(), request_of()], only_second)
    assert seen == [(0, 1, 1, None), (1, 1, 1, None)]
    assert [result is None for result in results] == [True, False]
