"""A sitting: the loop that every training over drawings has."""

import argparse
import math
from functools import partial

import numpy
import torch
from torch import nn
from training.toon.crops import draw_crop
from training.toon.sitting import begin, find_step_seed, learn_from_pool
from training.toon.trainer import Trainer


def make_options(**changes) -> argparse.Namespace:
    usual = {"seed": 3, "threads": 0, "pool": 12, "workers": 1, "refresh": 0.0}
    return argparse.Namespace(**usual | {"measure_every": 0.0, "sitting_minutes": math.inf} | changes)


def sit(folder, options, steps=6):
    begin(options)
    network = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(network.parameters())
    trainer = Trainer(network, folder, optimizer=optimizer, learning_rate=0.1, steps=steps)
    trainer.resume()
    shown, kept = [], []

    def learn(entries):
        numbers = entries["truths"][:, :2, 0, :2].reshape(5, 4).astype(numpy.float32)
        shown.append(numbers)
        trainer.descend(network(torch.from_numpy(numbers / 255)).square().mean(), {})

    def keep():
        kept.append(trainer.step)
        trainer.save()

    learn_from_pool(trainer, options, partial(draw_crop, side=4, patch=2, canvas=16), learn, keep, count=5)
    return trainer, numpy.array(shown), kept


def test_it_learns_until_it_is_done_and_keeps_the_end(tmp_path):
    trainer, shown, kept = sit(tmp_path, make_options(measure_every=math.inf))
    assert shown.shape == (6, 5, 4)
    assert trainer.progress == 1
    assert kept == [6]
    assert len({row.tobytes() for row in shown.reshape(-1, 4)}) > 1


def test_it_measures_as_often_as_it_is_told(tmp_path):
    _, _, kept = sit(tmp_path, make_options(measure_every=-1.0))
    assert kept == [1, 2, 3, 4, 5, 6, 6]


def test_a_sitting_ends_after_its_minutes_and_the_next_one_goes_on(tmp_path):
    _, shown, _ = sit(tmp_path, make_options(sitting_minutes=1e-9), steps=40)
    # The first step, which may have to compile, takes no time of the training's.
    assert len(shown) < 40
    second, rest, _ = sit(tmp_path, make_options(), steps=40)
    assert len(shown) + len(rest) == second.step == 40


def test_no_two_trainings_of_other_seeds_share_the_seed_of_a_step():
    seeds = {find_step_seed(seed, step) for seed in range(4) for step in range(1000)}
    assert len(seeds) == 4000
