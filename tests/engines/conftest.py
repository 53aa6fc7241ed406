from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest
from PIL import Image

from understudy.engines import DrawRequest, Engine, load_engine
from understudy.settings import Settings

# Read when torch is loaded, which the next import does; `load_engine` sets it for the service.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .tiny_sdxl import write_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def reference() -> Image.Image:
    """The young man of the examples."""
    return Image.open(EXAMPLES / "young-man.png").convert("RGB")


@pytest.fixture(scope="session")
def standing() -> numpy.ndarray:
    """A standing body as fractions of a square canvas, (18, 3)."""
    right = [(0.40, 0.36), (0.37, 0.48), (0.37, 0.60), (0.45, 0.58), (0.44, 0.76), (0.44, 0.92)]
    left = [(1 - x, y) for x, y in right]
    head = [(0.48, 0.20), (0.52, 0.20), (0.38, 0.22), (0.62, 0.22)]
    points = [(0.5, 0.24), (0.5, 0.35), *right[:3], *left[:3], *right[3:], *left[3:], *head]
    return numpy.array([(x, y, 1.0) for x, y in points])


@pytest.fixture(scope="session")
def toon() -> Engine:
    """The embedded engine with its real weights."""
    return load_engine(Settings(engine="toon", device="cpu"))


@pytest.fixture(scope="session")
def sdxl_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a tiny checkpoint in the true layout of SDXL."""
    return write_checkpoint(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def request_of(reference: Image.Image, standing: numpy.ndarray):
    """Make a request of the default character; keywords change it. `posed` adds the standing body."""

    def make(*, posed: bool = True, **changes) -> DrawRequest:
        fields = {
            "prompt": "young man, beard, wavy brown hair, red plaid shirt, blue jeans",
            "references": [reference],
            "width": 256,
            "height": 256,
            "steps": 4,
            "seed": 7,
        } | changes
        if posed and "skeleton" not in fields:
            fields["skeleton"] = standing * (fields["width"], fields["height"], 1.0)
        return DrawRequest(**fields)

    return make


@pytest.fixture
def request_varied(request_of, reference: Image.Image):
    """Make the n-th of several requests of one batch that have nothing else in common."""

    def make(number: int, **changes) -> DrawRequest:
        turned = Image.fromarray(numpy.roll(numpy.asarray(reference), number, axis=2))
        words = ("old woman, white hair, green dress", "robot", "young man, " + "red plaid shirt, " * 9)
        return request_of(
            prompt=words[number % len(words)],
            negative_prompt="blurry, " * number,
            references=[turned],
            seed=100 + number,
            **changes,
        )

    return make


def measure_psnr(first: Image.Image, second: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB; 99 for equal pictures."""
    error = numpy.square(numpy.asarray(first, dtype=float) - numpy.asarray(second)).mean()
    return 99.0 if error == 0 else float(10 * numpy.log10(255**2 / error))
