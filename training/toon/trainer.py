"""What every training has in common: learning rate, averaged weights, log, checkpoint.

A `Trainer` knows the network and its optimiser, and nothing of what is learned: the loop that
uses it hands it one loss after another.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .team import average_tensors, number_process

BUILD = Path("build/toon")
"""Where trainings keep what they make, unless they are told."""
LOG_EVERY = 50
"""Steps from one line of the log to the next; a line has the means of the steps between."""

_ANY_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Trainer:
    """Trains one network, in as many sittings as it takes.

    The folder gets `checkpoint.pt` (everything that going on needs) and `log.jsonl` (one line of
    figures every 50 steps). The schedule is measured in training time, all sittings together but for
    each one's first step, which may have to compile; or in steps where a number of `steps` is given:
    a warm-up, then half a cosine down to nearly 0.
    """

    def __init__(
        self,
        network: nn.Module,
        folder: Path,
        *,
        optimizer: torch.optim.Optimizer,
        learning_rate: float,
        minutes: float = math.inf,
        steps: int | None = None,
        warm_up_steps: int = 200,
        average_decay: float = 0.999,
        largest_gradient: float = 1.0,
    ) -> None:
        """`network` has every weight that is trained, the heads thrown away later included.

        `optimizer` has these weights. The learning rate is set here: a group with a `rate_share` gets
        that share of it.
        """
        self.network = network
        self.folder = folder
        self.step = 0
        self.seconds = 0.0
        self._learning_rate = learning_rate
        self._minutes, self._steps = minutes, steps
        self._warm_up_steps = warm_up_steps
        self._average_decay = average_decay
        self._largest_gradient = largest_gradient
        self._parameters = [weight for weight in network.parameters() if weight.requires_grad]
        self._optimizer = optimizer
        self._averages = [weight.detach().clone() for weight in self._parameters]
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._sums_since = 0
        self._clock = time.perf_counter()
        self._is_first_step = True

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._parameters[0].device

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1."""
        if self._steps is not None:
            return min(1.0, self.step / self._steps)
        return min(1.0, self.seconds / (60 * self._minutes))

    def choose_learning_rate(self) -> float:
        """The learning rate of the next step."""
        warmth = min(1.0, (self.step + 1) / self._warm_up_steps)
        return self._learning_rate * warmth * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * self.progress)))

    def in_precision(self) -> AbstractContextManager[None]:
        """What is computed within is in bfloat16 where the network's device has units for it."""
        return in_precision(self.device)

    def descend(self, loss: torch.Tensor, figures: dict[str, torch.Tensor]) -> None:
        """Take one step down the gradient of `loss`, and note the figures for the log."""
        rate = self.choose_learning_rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group.get("rate_share", 1.0)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        now = time.perf_counter()
        seconds = torch.tensor([now - self._clock])
        gradients = [weight.grad for weight in self._parameters if weight.grad is not None]
        average_tensors([*gradients, seconds])
        norm = nn.utils.clip_grad_norm_(self._parameters, self._largest_gradient)
        self._optimizer.step()
        self.step += 1
        share = min(self._average_decay, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._parameters, 1 - share)
        if not self._is_first_step:
            self.seconds += float(seconds)
        self._is_first_step = False
        self._clock = now
        self._note({"loss": loss, "gradient": norm, **figures}, rate)

    def rest(self) -> None:
        """Leave the time since the last step out of the training's: it was spent on measuring."""
        self._clock = time.perf_counter()

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """Within, the network has its averaged weights and is in its mode of evaluation."""
        kept = [weight.detach().clone() for weight in self._parameters]
        was_training = self.network.training
        self._set_weights(self._averages)
        self.network.eval()
        try:
            # What is compiled is compiled for the batches of the training.
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                yield self.network
        finally:
            self._set_weights(kept)
            self.network.train(was_training)

    def save(self) -> None:
        """Write the checkpoint; a crash leaves the one before it whole. In a team, one process calls it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "averages": self._averages,
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        fresh = self._checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        os.replace(fresh, self._checkpoint)

    def resume(self, *, frozen_are_given: bool = False) -> bool:
        """Go on from the checkpoint in the folder; False where there is none.

        `frozen_are_given`: weights that are not trained come from a training before, and not from this
        one's beginning.

        Raises:
            SystemExit: the given weights are not those that this training began with.
        """
        if not self._checkpoint.exists():
            return False
        state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        if frozen_are_given:
            for name, weight in self.network.named_parameters():
                if not weight.requires_grad and not torch.equal(weight, state["network"][name]):
                    sys.exit(f"{self.folder} is a training of another network; choose a new folder")
        self.network.load_state_dict(state["network"])
        # The shares are the program's to choose, and not those of the sitting before.
        shares = [group.get("rate_share", 1.0) for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, share in zip(self._optimizer.param_groups, shares, strict=True):
            group["rate_share"] = share
        self._set_tensors(self._averages, state["averages"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rest()
        return True

    def log(self, kind: str, figures: dict[str, Any]) -> None:
        """Write a line of figures into the log, and show it."""
        if number_process():
            return
        line = {"kind": kind, "step": self.step, "minutes": round(self.seconds / 60, 2), **figures}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _note(self, figures: dict[str, torch.Tensor], rate: float) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums[name] + value.detach()
        self._sums_since += 1
        if self.step % LOG_EVERY:
            return
        means = {name: round(float(value) / self._sums_since, 5) for name, value in self._sums.items()}
        pace = round(self.step / max(self.seconds, 1e-9), 2)
        self.log("train", means | {"learning_rate": round(rate, 7), "steps_per_second": pace})
        self._sums.clear()
        self._sums_since = 0

    def _set_weights(self, values: list[torch.Tensor]) -> None:
        self._set_tensors(self._parameters, values)

    @staticmethod
    @torch.no_grad()
    def _set_tensors(tensors: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


@contextmanager
def in_precision(device: torch.device) -> Iterator[None]:
    """What is computed within is in bfloat16 where the device has units for it: a GPU, or a CPU with
    matrix tiles (AMX); elsewhere in full precision."""
    on_cpu = device.type == "cpu"
    has_units = not on_cpu or torch.cpu._is_amx_tile_supported()
    # The CPU's fused attention does not use the tiles: plain products are five times as fast.
    attention = SDPBackend.MATH if on_cpu and has_units else _ANY_ATTENTION
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    with torch.autocast(device.type, torch.bfloat16, enabled=has_units), sdpa_kernel(attention):
        yield


def add_training_options(
    parser: argparse.ArgumentParser,
    folder: str | None,
    *,
    batch: int,
    learning_rate: float,
    pool: int,
    refresh: float,
    measure_every: float = 5.0,
) -> None:
    """Give a training the options that all have, with its own defaults; `folder` lies in `BUILD`, and
    where it is None the training chooses one."""
    parser.add_argument("--folder", type=Path, default=folder and BUILD / folder)
    parser.add_argument("--minutes", type=float, required=True, help="the whole training, all sittings")
    parser.add_argument("--sitting-minutes", type=float, default=math.inf, help="stop after these")
    parser.add_argument("--measure-every", type=float, default=measure_every, help="minutes")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--pool", type=int, default=pool, help="entries that are drawn and replayed")
    parser.add_argument("--refresh", type=float, default=refresh, help="entries a second that are replaced")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--threads", type=int, default=0, help="torch's; 0: its own choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=sys.platform == "linux" and shutil.which("g++") is not None,
        help="fuse what is computed with a compiler; on by default where there is one",
    )
