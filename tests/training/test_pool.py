import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import psutil
import pytest
from training.toon.pool import Pool, find_seed


def make_block(seed, side=8):
    """An entry that shows whether it is whole: one number everywhere."""
    value = seed % 2**31
    return {"block": np.full((side, side), value, np.int64), "value": np.array(value)}


def make_tale(seed):
    """What a worker sees of itself."""
    return {
        "seed": np.array(seed),
        "torch": np.array("torch" in sys.modules),
        "niceness": np.array(os.nice(0)),
        "threads": np.array(int(os.environ.get("OMP_NUM_THREADS", "0"))),
        "process": np.array(os.getpid()),
    }


def make_seldom(seed):
    if seed != find_seed(3, 0):
        raise ZeroDivisionError("no entry but the first")
    return {"seed": np.array(seed)}


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_a_filled_pool_is_the_same_with_any_number_of_workers(workers):
    with Pool(make_block, 20, workers=workers, seed=5, refresh=0) as pool:
        pool.wait()
        assert pool.filled == pool.made == 20
        taken = pool.take(np.random.default_rng(0), 400)
    assert taken["block"].shape == (400, 8, 8)
    assert {*taken["value"].tolist()} == {find_seed(5, number) % 2**31 for number in range(20)}


def test_the_same_generator_takes_the_same_entries_in_their_types():
    with Pool(make_block, 30, workers=2, seed=1, refresh=0) as pool:
        pool.wait()
        first, second = (pool.take(np.random.default_rng(4), 16) for _ in range(2))
    assert first["block"].dtype == np.int64
    for name in first:
        assert np.array_equal(first[name], second[name])


def test_pools_of_other_seeds_have_other_entries():
    seeds = {find_seed(pool, number) for pool in range(20) for number in range(200)}
    assert len(seeds) == 4000


def test_entries_are_replaced_and_none_is_torn():
    with Pool(partial(make_block, side=128), 12, workers=3, seed=2) as pool:
        pool.wait()
        rng, values, until = np.random.default_rng(0), set(), time.monotonic() + 60
        while len(values) < 300 and time.monotonic() < until:
            taken = pool.take(rng, 32)
            assert (taken["block"] == taken["value"][:, None, None]).all()
            values |= {*taken["value"].tolist()}
    assert len(values) >= 300


def test_the_caller_bounds_how_fast_entries_are_replaced():
    with Pool(make_block, 8, workers=2, seed=2, refresh=0) as pool:
        pool.wait()
        time.sleep(0.5)
        assert pool.made == 8
        pool.refresh = 20
        start = time.monotonic()
        time.sleep(2)
        made = pool.made - 8
        # What was asked for at most, give or take the turns at both ends.
        assert 0 < made <= 20 * (time.monotonic() - start) + 10


def test_workers_give_way_and_know_nothing_of_torch():
    with Pool(make_tale, 6, workers=3, seed=0, refresh=0) as pool:
        pool.wait()
        taken = pool.take(np.random.default_rng(0), 100)
        processes = {*taken["process"].tolist()}
    assert not taken["torch"].any()
    assert (taken["niceness"] >= 10).all()
    assert (taken["threads"] == 1).all()
    assert len(processes) == 3
    assert not any(psutil.pid_exists(process) for process in processes)


def test_a_pool_whose_process_fails_says_so():
    with Pool(make_seldom, 4, workers=2, seed=3) as pool, pytest.raises(RuntimeError, match="status 1"):
        pool.wait()


def test_an_empty_pool_says_so():
    pool = Pool(make_block, 4)
    with pytest.raises(RuntimeError, match="wait"):
        pool.take(np.random.default_rng(0), 1)
    pool.close()


def test_too_many_entries_are_refused_at_once(tmp_path):
    with pytest.raises(OSError, match="room"):
        Pool(partial(make_block, side=1024), 10**9, folder=tmp_path)


def test_a_maker_of_the_main_program_is_refused(monkeypatch):
    monkeypatch.setattr(make_block, "__module__", "__main__")
    with pytest.raises(ValueError, match="module of its own"):
        Pool(make_block, 4)


def test_processes_and_memory_go_with_a_caller_that_is_killed(tmp_path):
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from test_pool import make_tale; from training.toon.pool import Pool\n"
        "with Pool(make_tale, 40, workers=2, folder=Path(sys.argv[2])) as pool:\n"
        "    pool.wait(); print('filled', flush=True); time.sleep(600)\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", program, os.path.dirname(__file__), tmp_path],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert caller.stdout.readline() == "filled\n"
        workers = psutil.Process(caller.pid).children()
        assert len(workers) == 2
    finally:
        caller.send_signal(signal.SIGKILL)
        caller.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert list(tmp_path.iterdir()) == []
