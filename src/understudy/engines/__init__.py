"""The Engine protocol, and the engines by name.

An engine turns requests into pictures, one for each. It knows nothing of jobs, queues or HTTP.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..licences import explain_unaccepted
from ..weights import list_parts

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    from ..settings import Settings
    from .detector import PoseDetector


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """What an engine is asked to draw, once.

    `references` are RGB pictures of one character. `skeleton` is (18, 3) float: x and y in pixels
    of the asked canvas (`width` x `height`), confidence 0..1 (0: hidden); None when no pose is asked for.
    `hands` (2, 21, 3) and `face` (68, 3) go with it where they are known (`pose/whole_body.py`), for
    engines that draw them.
    Requests of one batch agree in `width`, `height`, `guidance_scale`, `steps`, `ip_scale`,
    `pose_scale`, in the number of references, and in whether they have a skeleton.
    """

    prompt: str
    references: Sequence[Image.Image]
    width: int
    height: int
    seed: int
    negative_prompt: str = ""
    guidance_scale: float = 3.0
    steps: int = 10
    ip_scale: float | None = None
    pose_scale: float | None = None
    skeleton: numpy.ndarray | None = None
    hands: numpy.ndarray | None = None
    face: numpy.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class DrawResult:
    """What an engine drew: exactly `width` x `height`, RGB, and what could not be honoured."""

    picture: Image.Image
    warnings: list[str] = field(default_factory=list)


OnStep = Callable[[int, int, int, "Image.Image | None"], bool]
"""Called after each denoising step with (which request, step, steps, small preview or None), for
each request that has not been cancelled; False cancels it."""


class Engine(Protocol):
    """A loaded model on one device."""

    name: str
    version: str
    device: str
    batch_size: int
    """The most requests that are drawn faster together than one after another."""
    scores_likeness: bool
    """Whether `score_likeness` can tell."""
    detector: PoseDetector | None
    """Finds the skeletons of characters as this model draws them; None where there is none for them."""

    def draw(self, requests: Sequence[DrawRequest], on_step: OnStep) -> list[DrawResult | None]:
        """Draw one picture for each request, all at the same time; None for a cancelled one.

        Drawn alone, a request gives the same bytes every time; in a batch the same picture but
        for rounding.

        Raises:
            EngineError: they cannot be drawn; `code` is stable. Fewer of them may do.
        """
        ...

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float | None:
        """How alike the characters in references and picture are, 0 to 1; None when it cannot tell."""
        ...


class EngineError(Exception):
    """An engine cannot load or draw; `message` says what to do."""

    def __init__(self, message: str, code: str = "engine_error") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def load_engine(settings: Settings) -> Engine:
    """Load the engine that the settings name.

    Raises:
        EngineError: its weights cannot be loaded (`engine_load_failed`), or their licence is not
            accepted (`licence_not_accepted`).
    """
    weights = [part.place for part in list_parts(settings, settings.engine)]
    if refusal := explain_unaccepted(settings.engine, weights, settings.accepted):
        raise EngineError(refusal, code="licence_not_accepted")
    # All are read when the libraries are loaded. Threads that wait by spinning make a drawing
    # several times slower as soon as anything else runs on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        # Weights that wait beside a GPU would each take the next power of two of the machine's memory
        # (github.com/pytorch/pytorch/issues/150517): for most nearly twice as much as they need.
        os.environ["PYTORCH_ALLOC_CONF"] = "pinned_max_round_threshold_mb:1"
    if settings.engine == "null":
        from .null import NullEngine

        return NullEngine()
    if settings.engine == "qwen-edit":
        from .qwen_edit import load_qwen_edit

        return load_qwen_edit(settings)
    if settings.engine == "flux2-klein":
        from .flux2_klein import load_flux2_klein

        return load_flux2_klein(settings)
    from .sdxl import load_sdxl

    return load_sdxl(settings)
