"""Draws what an evaluation asks for through the product's own engine, and keeps what it drew.

A picture is kept under the digest of everything that it depends on, so an evaluation that was
interrupted goes on where it was, and one of another checkpoint draws anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import torch
from PIL import Image, PngImagePlugin

from understudy.engines import DrawRequest
from understudy.engines.checkpoint import find_checkpoint, load_pipeline
from understudy.engines.sdxl import load_sdxl
from understudy.settings import Settings

from .networks import CANVAS, PATCH, PICTURE_PATCH

_ENCODED_SIDE = CANVAS // PATCH * PICTURE_PATCH
"""Side of the pictures that the autoencoder encodes, in pixels."""

_PACE = "seconds"
"""The text chunk of a kept picture that says how long it took to draw."""


class Artist:
    """The engine of a checkpoint folder, and the pictures that it has drawn."""

    def __init__(self, checkpoint: Path, folder: Path, device: str = "auto") -> None:
        """Pictures are kept in `folder`.

        Raises:
            EngineError: the checkpoint cannot be loaded.
        """
        self.digest = _digest_folder(checkpoint)
        self._folder = folder
        settings = Settings(engine="toon", device=device)
        place = replace(find_checkpoint(settings), model=str(checkpoint), ip_adapter=str(checkpoint))
        self._engine = load_sdxl(settings, place)
        self.device = self._engine.device
        self._autoencoder = load_pipeline(place, self.device).vae

    def draw(self, requests: Sequence[DrawRequest]) -> list[Image.Image]:
        """A picture for each request; the requests agree as those of a batch do."""
        places = [self._folder / self._name_kept(request) for request in requests]
        missing = [index for index, place in enumerate(places) if not place.exists()]
        self._folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(missing), self._engine.batch_size):
            batch = missing[start : start + self._engine.batch_size]
            before = time.perf_counter()
            drawn = self._engine.draw([requests[index] for index in batch], lambda *_: True)
            seconds = (time.perf_counter() - before) / len(batch)
            for index, result in zip(batch, drawn, strict=True):
                told = PngImagePlugin.PngInfo()
                told.add_text(_PACE, f"{seconds:.4f}")
                fresh = places[index].with_suffix(".new")
                result.picture.save(fresh, "PNG", pnginfo=told, compress_level=2)
                fresh.rename(places[index])
        return [_load(place) for place in places]

    @torch.no_grad()
    def reconstruct(self, picture: Image.Image) -> Image.Image:
        """A square picture through the autoencoder alone: the best that the engine could do."""
        small = picture.resize((_ENCODED_SIDE, _ENCODED_SIDE), Image.Resampling.BOX)
        pixels = torch.from_numpy(numpy.array(small)).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents = self._autoencoder.encode(pixels.to(self.device))
        decoded = self._autoencoder.decode(latents, return_dict=False)[0][0].clamp(-1, 1)
        decoded = ((decoded + 1) * 127.5).round().permute(1, 2, 0).to("cpu", torch.uint8)
        return Image.fromarray(decoded.numpy()).resize(picture.size, Image.Resampling.LANCZOS)

    def _name_kept(self, request: DrawRequest) -> str:
        """The digest of all that the picture of a request depends on."""
        told = replace(request, references=(), skeleton=None)
        digest = hashlib.sha256(f"{self.digest} {self.device} {told}".encode())
        for reference in request.references:
            digest.update(reference.tobytes())
        digest.update(b"" if request.skeleton is None else request.skeleton.tobytes())
        return f"{digest.hexdigest()[:32]}.png"


def tell_seconds(picture: Image.Image) -> float:
    """How long a picture of an `Artist` took to draw."""
    return float(picture.info[_PACE])


def _digest_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
    return picture
