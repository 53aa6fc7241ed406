import time

import numpy
import pytest
from training.toon.reel import Reel


def make_entry(seed):
    """Two rows that tell their seed."""
    return {"rows": numpy.full((2, 3), seed), "squares": numpy.full((2,), float(seed) ** 2)}


def make_nothing(seed):
    if seed > 100:
        raise ValueError("no more")
    return make_entry(seed)


def test_entries_are_whole_different_and_go_on_being_replaced():
    rng = numpy.random.default_rng(0)
    with Reel(make_entry, 10, workers=2, first_seed=100) as reel:
        reel.wait()
        taken = reel.take(rng, 10)
        assert taken["rows"].shape == (20, 3)
        assert (taken["rows"][:, 0] ** 2 == taken["squares"]).all()
        assert len(set(taken["rows"][:, 0])) == 10
        assert taken["rows"].min() >= 100
        until = time.monotonic() + 30
        while reel.take(rng, 10)["rows"].min() < 110:
            assert time.monotonic() < until, "the first entries are still there"


def test_the_same_seeds_are_drawn_whatever_the_number_of_processes():
    for workers in (1, 3):
        with Reel(make_entry, 6, workers=workers, first_seed=40) as reel:
            reel.wait()
            assert reel.take(numpy.random.default_rng(0), 6)["rows"].min() >= 40


def test_a_process_that_fails_is_told():
    with Reel(make_nothing, 50, first_seed=80) as reel, pytest.raises(RuntimeError, match="ended with"):
        reel.wait()
