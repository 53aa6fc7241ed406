"""A team of processes learns what one process would learn from all their samples."""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import psutil
import torch
from torch import nn
from training.toon.team import number_process, work_together
from training.toon.trainer import Trainer

STEPS = 5


def make_problem():
    torch.manual_seed(0)
    network = nn.Linear(6, 2)
    return network, torch.randn(2, 8, 6), torch.randn(2, 8, 2)


def learn(options: argparse.Namespace) -> None:
    """Learn from this process's half of the samples; alone, from all of them."""
    network, inputs, answers = make_problem()
    own = slice(None) if options.processes == 1 else number_process()
    trainer = Trainer(
        network,
        options.folder,
        optimizer=torch.optim.AdamW(network.parameters()),
        learning_rate=0.05,
        steps=STEPS,
        largest_gradient=1e9,
    )
    for _ in range(STEPS):
        loss = (network(inputs[own]) - answers[own]).square().mean()
        trainer.descend(loss, {})
    trainer.log("done", {"loss": float(loss.detach())})
    torch.save((network.state_dict(), trainer.seconds), options.folder / f"{number_process()}.pt")


def test_processes_that_train_together_stay_alike_and_learn_from_all(tmp_path: Path):
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        work_together(learn, argparse.Namespace(processes=processes, folder=folder))
    (alone, _), (first, seconds), (second, others) = (
        torch.load(tmp_path / name) for name in ("1/0.pt", "2/0.pt", "2/1.pt")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.allclose(first[name], alone[name], atol=1e-5) for name in first)
    assert seconds == others
    assert len((tmp_path / "2" / "log.jsonl").read_text().splitlines()) == 1


def sleep_on(options: argparse.Namespace) -> None:
    """Tell that this process is there, and stay."""
    (options.folder / str(os.getpid())).touch()
    time.sleep(300)


def test_a_team_ends_with_the_process_that_began_it(tmp_path: Path):
    options = argparse.Namespace(processes=2, folder=tmp_path)
    beginner = multiprocessing.get_context("spawn").Process(target=work_together, args=(sleep_on, options))
    beginner.start()
    try:
        deadline = time.monotonic() + 60
        while len(pids := [int(path.name) for path in tmp_path.iterdir()]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        beginner.kill()
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
