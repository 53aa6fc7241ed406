"""Several processes that train one network: each learns from samples of its own, and all take the
mean of their steps.

On a CPU two processes of one thread each do much more than one of two threads: a small network's
operations are too short to be worth dividing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection, parent_process
from pathlib import Path

import torch
from torch import distributed, multiprocessing


def work_together(work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Do `work` in `options.processes` processes; in this one where that is 1.

    Raises:
        SystemExit: several are asked for on a GPU.
    """
    if options.processes == 1:
        work(options)
        return
    if torch.cuda.is_available():
        sys.exit("a GPU is trained by one process: --processes 1")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (work, options, Path(folder) / "meeting")
        multiprocessing.spawn(_join, arguments, nprocs=options.processes)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Give a training the option `--processes`: on a GPU one, else one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "--processes",
        type=int,
        default=1 if torch.cuda.is_available() else cores,
        help="that train together; each has its own batch",
    )


def number_process() -> int:
    """This process's number in its team, from 0; 0 without a team."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def average_tensors(tensors: Sequence[torch.Tensor]) -> None:
    """Set tensors to their means over the team, in place; every process calls it alike."""
    if not distributed.is_initialized():
        return
    together = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    pieces = together.split([tensor.numel() for tensor in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.view_as(tensor))


def wait_for_all() -> None:
    """Wait until every process of the team is here."""
    if distributed.is_initialized():
        distributed.barrier()


def _join(
    number: int, work: Callable[[argparse.Namespace], None], options: argparse.Namespace, meeting: Path
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    distributed.init_process_group(
        "gloo", init_method=meeting.as_uri(), rank=number, world_size=options.processes
    )
    try:
        work(options)
    finally:
        distributed.destroy_process_group()


def _end_with_parent() -> None:
    """A process whose parent was killed would train on, and write over what another one trains."""
    connection.wait([parent_process().sentinel])
    os._exit(1)
