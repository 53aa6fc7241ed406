"""Who draws the scene set: an engine in this process, or a model of a service."""

from __future__ import annotations

import gc
import hashlib
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image
from portfolios import Drawn, Order
from pydantic import ValidationError

import understudy
from understudy import Client, InferenceFailed, Job
from understudy.engines import DrawRequest, Engine, load_engine
from understudy.settings import Settings

JOBS_TOGETHER = 4
"""Jobs that a service has at a time: enough that it never waits for the next."""
JOB_SECONDS = 3600.0


class EngineArtist:
    """An engine in this process, loaded when there is something to draw."""

    def __init__(self, label: str, settings: Settings) -> None:
        self.label = label
        self.settings = settings
        self.maker = _describe_maker(settings)
        # The embedded model has always had a reference in training, a grey one for none.
        self.can_ignore_references = settings.engine == "sdxl"
        self._engine: Engine | None = None

    def draw(self, orders: Sequence[Order]) -> Iterator[tuple[int, Drawn]]:
        """Draw orders of one size, as many together as the engine likes.

        Raises:
            EngineError: the engine cannot be loaded, or cannot draw.
        """
        posed = sorted(range(len(orders)), key=lambda number: orders[number].scene.pose is None)
        for _, numbers in groupby(posed, key=lambda number: orders[number].scene.pose is None):
            waiting = list(numbers)
            while waiting:
                size = self._load().batch_size
                batch, waiting = waiting[:size], waiting[size:]
                before = time.perf_counter()
                results = self._load().draw([_to_request(orders[one]) for one in batch], lambda *_: True)
                seconds = (time.perf_counter() - before) / len(batch)
                for number, result in zip(batch, results, strict=True):
                    assert result is not None  # nobody cancels
                    yield number, Drawn(result.picture, result.warnings, seconds)

    def close(self) -> None:
        """Unload the engine, so that the next one finds the device's memory free."""
        self._engine = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self) -> Engine:
        if self._engine is None:
            self._engine = load_engine(self.settings)
        return self._engine


class ServiceArtist:
    """A model of a running service, by its slug. What draws there is the service's to choose."""

    def __init__(self, client: Client, slug: str) -> None:
        """Ask the service for the model.

        Raises:
            UnderstudyError: the service is away, or has no such model.
        """
        self.label = slug
        self._client, self._slug = client, slug
        engine = client.model(slug)["engine"]
        self.maker = f"{client.base_url} {slug} {engine}"
        self.can_ignore_references = engine == "sdxl"
        self._uploaded: dict[bytes, str] = {}

    def draw(self, orders: Sequence[Order]) -> Iterator[tuple[int, Drawn]]:
        """Draw orders, a few jobs at a time; one that ends FAILED has no picture.

        Raises:
            UnderstudyError: the service stays away, or refuses what is asked.
        """
        jobs: deque[tuple[int, Job]] = deque()
        for number, order in enumerate(orders):
            jobs.append((number, self._client.submit_async(self._slug, **self._to_parameters(order))))
            if len(jobs) == JOBS_TOGETHER:
                yield self._finish(*jobs.popleft())
        while jobs:
            yield self._finish(*jobs.popleft())

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _finish(self, number: int, job: Job) -> tuple[int, Drawn]:
        try:
            result = job.wait(timeout=JOB_SECONDS)
        except InferenceFailed as error:
            return number, Drawn(None, [error.message])
        with tempfile.TemporaryDirectory() as folder, Image.open(job.save(folder)[0]) as picture:
            drawn = picture.convert("RGB")
        return number, Drawn(drawn, result["warnings"], result["metrics"]["inference_time"])

    def _to_parameters(self, order: Order) -> Mapping[str, Any]:
        asked = {
            "prompt": order.prompt,
            "ip_image": self._upload(order.reference),
            "pose": order.scene.pose,
            "width": order.side,
            "height": order.side,
            "seed": order.seed,
            "steps": order.steps,
            "guidance_scale": order.guidance_scale,
            "ip_scale": order.ip_scale,
            "output_format": "png",
        }
        return {name: value for name, value in asked.items() if value is not None}

    def _upload(self, picture: Image.Image) -> str:
        digest = hashlib.sha256(picture.tobytes()).digest()
        if digest not in self._uploaded:
            self._uploaded[digest] = self._client.upload(picture)
        return self._uploaded[digest]


def read_engine(words: str, device: str) -> EngineArtist:
    """The engine of an option: its name, and settings that differ from the environment's.

    `sdxl sdxl_model=SG161222/RealVisXL_V5.0` is SDXL with other weights.

    Raises:
        ValueError: there is no such engine or setting, or it cannot have that value.
    """
    name, *pairs = words.split()
    changes = {}
    for pair in pairs:
        setting, equals, value = pair.partition("=")
        if not equals or setting not in Settings.model_fields:
            raise ValueError(f"{pair!r} is no setting=value; docs/settings.md has the settings")
        changes[setting] = value
    try:
        return EngineArtist(words, Settings(engine=name, **{"device": device, **changes}))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ValueError(
            f"{'.'.join(map(str, wrong['loc']))} of --engine {words!r}: {wrong['msg']}"
        ) from error


def _to_request(order: Order) -> DrawRequest:
    return DrawRequest(
        prompt=order.prompt,
        references=[order.reference],
        width=order.side,
        height=order.side,
        seed=order.seed,
        guidance_scale=order.guidance_scale,
        steps=order.steps,
        ip_scale=order.ip_scale,
        skeleton=order.scene.find_skeleton(order.side),
    )


def _describe_maker(settings: Settings) -> str:
    """The engine's own settings, the files of those that are folders, its code and its libraries."""
    own = settings.engine.replace("-", "_")
    told = {name: value for name, value in settings.model_dump().items() if name.startswith(f"{own}_")}
    folders = [Path(value) for value in told.values() if isinstance(value, str)]
    if settings.engine == "toon":
        import understudy_toon

        folders.append(understudy_toon.checkpoint_path())
    stamps = [_stamp_files(folder) for folder in folders if folder.is_dir()]
    libraries = [version(name) for name in ("torch", "diffusers", "transformers")]
    return repr((settings.engine, settings.device, told, stamps, _digest_code(), libraries))


def _stamp_files(folder: Path) -> str:
    """A digest of the names, sizes and times of a folder's files: weights are too large to be read."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        digest.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@cache
def _digest_code() -> str:
    """A digest of the code that draws."""
    package, digest = Path(understudy.__file__).parent, hashlib.sha256()
    for room in ("engines", "pose"):
        for path in sorted((package / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
