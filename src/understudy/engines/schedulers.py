"""The schedulers that SDXL is drawn with, by the names that presets have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, SchedulerMixin

MAKERS: dict[str, Callable[..., SchedulerMixin]] = {
    # DPM-Solver++ of second order (Lu et al., arXiv 2211.01095) over Karras's noise levels (arXiv
    # 2206.00364). Guided drawings of 10 to 30 steps: of the deterministic solvers it is the one that
    # needs the fewest, and its multistep form costs one run of the network a step, as Euler's does.
    # Its last step is of first order, for the second is unstable where the noise ends.
    "dpm": lambda config: DPMSolverMultistepScheduler.from_config(
        config, algorithm_type="dpmsolver++", solver_order=2, use_karras_sigmas=True
    ),
    # Distilled steps, of which the first is where the training's noise is strongest. It is what the
    # authors' DDIM draws too: its step (Song et al., arXiv 2010.02502) is Euler's over the noise level.
    # diffusers' own DDIM rounds its times, and leaves noise where their number does not divide 1000.
    "euler": lambda config: EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing"),
}


def make_scheduler(name: str, config: Mapping[str, Any]) -> SchedulerMixin:
    """The scheduler of a name for a model whose own has this configuration."""
    return MAKERS[name](config)


class LateStart:
    """A scheduler from a time on: in its place, a pipeline draws on from latents that have less noise.

    All else is the scheduler's own.
    """

    init_noise_sigma = 1.0

    def __init__(self, scheduler: Any, time: float) -> None:
        """`time` is the share of the noising that a drawing begins with, in 0..1."""
        self._scheduler = scheduler
        self._time = time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    @property
    def timesteps(self) -> Any:
        """The times of the steps that are left."""
        return self._scheduler.timesteps[self._count_skipped() :]

    def set_timesteps(self, *arguments: Any, **keywords: Any) -> None:
        """As the scheduler's own, of all steps."""
        self._scheduler.set_timesteps(*arguments, **keywords)
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._count_skipped())

    def _count_skipped(self) -> int:
        latest = self._time * self._scheduler.config.num_train_timesteps
        return int((self._scheduler.timesteps >= latest).sum())
