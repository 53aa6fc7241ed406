"""Draws what an evaluation asks for through the product's own engine, and keeps what it drew.

A picture is kept under the digest of everything that it depends on, so an evaluation that was
interrupted goes on where it was, and one of another checkpoint or another engine draws anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy
import torch
import transformers
from PIL import Image

import understudy
from understudy.engines import DrawRequest, EngineError
from understudy.engines.checkpoint import describe_toon
from understudy.engines.pose_finder import PoseFinder
from understudy.engines.sdxl import load_sdxl
from understudy.engines.toon_autoencoder import ToonAutoencoder
from understudy.pose.skeleton import Skeleton
from understudy.settings import Settings

from .networks import CANVAS, PATCH, PICTURE_PATCH

_ENCODED_SIDE = CANVAS // PATCH * PICTURE_PATCH
"""Side of the pictures that the autoencoder encodes, in pixels."""
WARM_UPS = 2
"""Pictures that are drawn before any is timed."""


class Artist:
    """The engine of a checkpoint folder, with its scores, and the pictures that it has drawn."""

    def __init__(self, checkpoint: Path, folder: Path, device: str = "auto") -> None:
        """Pictures are kept in `folder`.

        Raises:
            EngineError: the checkpoint cannot be loaded.
        """
        self.digest = _digest_files(checkpoint, "*")
        self._folder = folder
        settings = Settings(engine="toon", device=device)
        place = describe_toon(checkpoint, version=self.digest)
        self._engine = load_sdxl(settings, place)
        self.device = self._engine.device
        self.likeness_floor = place.profile.likeness_floor
        self._poses = PoseFinder(self._engine.detector)
        self._autoencoder = ToonAutoencoder.from_pretrained(checkpoint / "vae", torch_dtype=torch.float32)
        self._autoencoder.to(self.device, memory_format=torch.channels_last)
        self._maker = f"{self.digest} {_digest_engine()} {self.device}"

    def draw(self, requests: Sequence[DrawRequest]) -> list[Image.Image]:
        """A picture for each request; the requests agree as those of a batch do."""
        places = [self._folder / self._name_kept(request) for request in requests]
        missing = [index for index, place in enumerate(places) if not place.exists()]
        self._folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(missing), self._engine.batch_size):
            batch = missing[start : start + self._engine.batch_size]
            drawn = self._engine.draw([requests[index] for index in batch], lambda *_: True)
            for index, result in zip(batch, drawn, strict=True):
                fresh = places[index].with_suffix(".new")
                result.picture.save(fresh, "PNG", compress_level=2)
                fresh.rename(places[index])
        return [_load(place) for place in places]

    def time_drawing(self, requests: Iterable[DrawRequest]) -> list[float]:
        """The seconds of each request drawn by itself, nothing kept; the first `WARM_UPS` are not told."""
        seconds = []
        for request in requests:
            before = time.perf_counter()
            self._engine.draw([request], lambda *_: True)
            seconds.append(time.perf_counter() - before)
        return seconds[WARM_UPS:]

    @torch.no_grad()
    def reconstruct(self, picture: Image.Image) -> Image.Image:
        """A square picture through the autoencoder alone: the best that the engine could do."""
        small = picture.resize((_ENCODED_SIDE, _ENCODED_SIDE), Image.Resampling.BOX)
        pixels = torch.from_numpy(numpy.array(small)).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents = self._autoencoder.encode(pixels.to(self.device))
        decoded = self._autoencoder.decode(latents, return_dict=False)[0][0].clamp(-1, 1)
        decoded = ((decoded + 1) * 127.5).round().permute(1, 2, 0).to("cpu", torch.uint8)
        return Image.fromarray(decoded.numpy()).resize(picture.size, Image.Resampling.LANCZOS)

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float:
        """The likeness that the product tells."""
        return self._engine.score_likeness(references, picture)

    def score(self, request: DrawRequest, picture: Image.Image) -> float:
        """What the product chooses the best of several pictures by: the mean of the scores it has."""
        scores = [self.score_likeness(request.references, picture)]
        if self._engine.detector is not None:
            scores.append(self._poses.score(request.skeleton, picture))
        known = [score for score in scores if score is not None]
        return sum(known) / len(known)

    @property
    def has_detector(self) -> bool:
        """Whether the checkpoint has a detector of keypoints."""
        return self._engine.detector is not None

    def find_skeleton(self, picture: Image.Image) -> Skeleton | None:
        """What the checkpoint's detector finds; None where it finds nobody."""
        try:
            return self._engine.detector.find_skeleton(picture)
        except EngineError:
            return None

    def _name_kept(self, request: DrawRequest) -> str:
        """The digest of all that the picture of a request depends on."""
        told = replace(request, references=(), skeleton=None)
        digest = hashlib.sha256(f"{self._maker} {told}".encode())
        for reference in request.references:
            digest.update(reference.tobytes())
        digest.update(b"" if request.skeleton is None else request.skeleton.tobytes())
        return f"{digest.hexdigest()[:32]}.png"


def _digest_engine() -> str:
    """The digest of the code that draws, and the versions of what it draws with."""
    code = Path(understudy.__file__).parent
    parts = [_digest_files(code / name, "*.py") for name in ("engines", "pose")]
    return " ".join((*parts, torch.__version__, diffusers.__version__, transformers.__version__))


def _digest_files(folder: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob(pattern) if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
    return picture
