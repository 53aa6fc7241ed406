from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from understudy.engines import DrawRequest, Engine, load_engine
from understudy.settings import Settings

# Read when torch is loaded, which the next import does; `load_engine` sets it for the service.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from understudy.engines.checkpoint import find_checkpoint, load_pipeline
from understudy.engines.detector import PoseDetector
from understudy.engines.editing import EditProfile
from understudy.engines.flux2_klein import load_flux2_klein
from understudy.engines.qwen_edit import load_qwen_edit
from understudy.engines.sdxl import SdxlEngine

from . import tiny_flux2, tiny_qwen, tiny_sdxl

SMALL = EditProfile(
    canvas_pixels=128 * 128, canvas_multiple=32, pose_pixels=96 * 96, reference_pixels=96 * 96
)
"""Canvases on which the tiny engines are quick."""

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
    return tiny_sdxl.write_checkpoint(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def detector(standing: numpy.ndarray) -> PoseDetector:
    """Finds the standing body in every picture whose upper edge is of one colour, and else nobody."""

    def find(picture: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        plain = (picture[0] == picture[0, 0]).all()
        people = standing[None] if plain else numpy.zeros((0, 18, 3))
        return people[..., :2] * (picture.shape[1], picture.shape[0]), people[..., 2]

    return PoseDetector(find)


@pytest.fixture(scope="session")
def make_sdxl(sdxl_settings: Settings, detector: PoseDetector):
    """Load the tiny checkpoint with settings changed. It draws on a canvas of a sixteenth of SDXL's area to
    be quick, and `sees` faces."""

    def make(*, sees: bool = True, face_pass: bool = False, **changes) -> SdxlEngine:
        checkpoint = find_checkpoint(sdxl_settings.model_copy(update=changes))
        profile = replace(checkpoint.profile, canvas_pixels=256 * 256)
        pipeline = load_pipeline(checkpoint, "cpu")
        seeing = detector if sees else None
        return SdxlEngine(pipeline, profile, "cpu", detector=seeing, face_pass=face_pass)

    return make


@pytest.fixture(scope="session")
def sdxl(make_sdxl) -> SdxlEngine:
    """The tiny checkpoint as the settings are by themselves."""
    return make_sdxl()


@pytest.fixture(scope="session")
def sdxl_lora(sdxl_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LoRA for the tiny checkpoint."""
    file = tmp_path_factory.mktemp("loras") / "tiny.safetensors"
    tiny_sdxl.write_lora(file, sdxl_settings)
    return str(file)


@pytest.fixture(scope="session")
def sdxl_lightning(make_sdxl, sdxl_lora: str) -> SdxlEngine:
    """The tiny checkpoint with the preset that draws without guidance."""
    return make_sdxl(sdxl_preset="lightning", sdxl_preset_lora=sdxl_lora)


@pytest.fixture(scope="session")
def qwen_edit_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a tiny checkpoint in the true layout of Qwen-Image-Edit."""
    return tiny_qwen.write_checkpoint(tmp_path_factory.mktemp("qwen_edit"))


@pytest.fixture(scope="session")
def small_pictures() -> Iterator[None]:
    """Have Qwen's pipeline read its pictures small; their area is a constant of it."""
    pipeline = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{pipeline}.VAE_IMAGE_SIZE", SMALL.reference_pixels)
        patch.setattr(f"{pipeline}.CONDITION_IMAGE_SIZE", 112 * 112)
        yield


@pytest.fixture(scope="session")
def qwen_edit(qwen_edit_settings: Settings, small_pictures: None) -> Engine:
    """The tiny Qwen-Image-Edit, on small canvases."""
    return load_qwen_edit(qwen_edit_settings, SMALL)


@pytest.fixture(scope="session")
def qwen_edit_fast(qwen_edit_settings: Settings, small_pictures: None) -> Engine:
    """The same with its LoRA."""
    lora = Path(qwen_edit_settings.qwen_edit_model).parent / "lora"
    return load_qwen_edit(qwen_edit_settings.model_copy(update={"qwen_edit_lora": str(lora)}), SMALL)


@pytest.fixture(scope="session")
def flux2_base_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a tiny checkpoint in the true layout of FLUX.2-klein's base weights."""
    return tiny_flux2.write_checkpoint(tmp_path_factory.mktemp("flux2_base"), "base")


@pytest.fixture(scope="session")
def flux2_base(flux2_base_settings: Settings) -> Engine:
    """The tiny FLUX.2-klein, undistilled, on small canvases."""
    return load_flux2_klein(flux2_base_settings, SMALL)


@pytest.fixture(scope="session")
def flux2_distilled(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The same as the distilled weights are."""
    folder = tmp_path_factory.mktemp("flux2_distilled")
    return load_flux2_klein(tiny_flux2.write_checkpoint(folder, "distilled"), SMALL)


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


class Spy:
    """Stands before a pipeline and keeps what it is called with."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.given: dict[str, Any] = {}

    def __call__(self, **given: Any) -> Any:
        self.given = given
        return self._pipeline(**given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def measure_psnr(first: Image.Image, second: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB; 99 for equal pictures."""
    error = numpy.square(numpy.asarray(first, dtype=float) - numpy.asarray(second)).mean()
    return 99.0 if error == 0 else float(10 * numpy.log10(255**2 / error))
