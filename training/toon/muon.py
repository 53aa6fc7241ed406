"""Muon: steps whose every direction has the same size, for the matrices of a network.

Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the
scale of Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982), so that learning rates
mean what they mean for AdamW. torch's own takes matrices only; most of a UNet are convolutions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

ROUNDS = 5
"""Newton-Schulz iterations: after five the singular values lie between about 0.7 and 1.2."""
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for weights of two and more dimensions, AdamW for all others.

    A convolution counts as the matrix (output channels, all the rest). What maps to or from the
    outside (embeddings, first and last layers) does better with AdamW: name it in `plain`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        plain: Iterable[nn.Parameter] = (),
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
    ) -> None:
        outside = {id(weight) for weight in plain}
        every = list(parameters)
        matrices = [weight for weight in every if weight.ndim > 1 and id(weight) not in outside]
        inside = {id(weight) for weight in matrices}
        groups = [
            {"params": matrices, "orthogonal": True, "weight_decay": weight_decay},
            {"params": [weight for weight in every if id(weight) not in inside], "orthogonal": False},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": 0.0},
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Take one step; `closure` is not supported."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["orthogonal"]:
                self._step_matrices(weights, group)
            elif weights:
                self._step_others(weights, group)

    def _step_matrices(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        alike = defaultdict(list)
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            direction = weight.grad.lerp(state["momentum"], group["momentum"])
            alike[direction.flatten(1).shape].append((weight, direction.flatten(1)))
        for (rows, columns), members in alike.items():
            steps = orthogonalize(torch.stack([direction for _, direction in members]))
            size = 0.2 * max(rows, columns) ** 0.5
            for (weight, _), step in zip(members, steps, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(step.view(weight.shape).to(weight.dtype), alpha=-group["lr"] * size)

    def _step_others(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["mean"] = torch.zeros_like(weight)
                state["square"] = torch.zeros_like(weight)
            state["step"] += 1
            count = float(state["step"])
            state["mean"].lerp_(weight.grad, 1 - first)
            state["square"].mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
            root = (state["square"] / (1 - second**count)).sqrt_().add_(1e-8)
            weight.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - first**count))


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with singular values of about 1, (n, rows, columns), by Newton-Schulz.

    Where there are units for bfloat16, it is done in that: exact enough for a direction.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    close = matrices.mT if tall else matrices
    has_units = close.is_cuda or torch.cpu._is_amx_tile_supported()
    close = close.to(torch.bfloat16) if has_units else close
    close = close / (close.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(ROUNDS):
        square = close @ close.mT
        close = a * close + (b * square + c * square @ square) @ close
    return close.mT if tall else close
