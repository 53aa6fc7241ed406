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

import understudy_toon
from PIL import Image
from portfolios import Drawn, Order
from pydantic import ValidationError

import understudy
from understudy import Client, InferenceFailed, Job
from understudy.engines import DrawRequest, Engine, load_engine
from understudy.settings import Settings
from understudy.weights import Found, find_part, list_parts

JOBS_TOGETHER = 4
"""Jobs that a service has at a time: enough that it never waits for the next."""
JOB_SECONDS = 3600.0

_PREFIXES = {"toon": "sdxl", "qwen-edit": "qwen_edit", "flux2-klein": "flux2_klein"}
"""How the settings of an engine begin where that is not its name; the embedded model has SDXL's."""
_ACTING = ("device", "memory_profile", "compile")
"""Settings of every engine that its pictures depend on."""


class EngineArtist:
    """An engine in this process, loaded when there is something to draw."""

    def __init__(self, label: str, settings: Settings) -> None:
        self.label = label
        self.settings = settings
        self.maker = _describe_maker(settings)
        self.weights = _name_weights(settings)
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
        self.weights = f"the engine {engine} of {client.base_url}"
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

    `realvis=sdxl sdxl_model=SG161222/RealVisXL_V5.0` is SDXL with other weights, and a label for it.

    Raises:
        ValueError: there is no such engine or setting, or it cannot have that value.
    """
    first, *pairs = words.split() or [""]
    label, named, name = first.partition("=")
    changes = {}
    for pair in pairs:
        setting, equals, value = pair.partition("=")
        if not equals or setting not in Settings.model_fields:
            raise ValueError(f"{pair!r} is no setting=value; docs/settings.md has the settings")
        changes[setting] = value
    try:
        settings = Settings(engine=name or first, **{"device": device, **changes})
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{where} of --engine {words!r}: {wrong['msg']}") from error
    return EngineArtist(label if named else words, settings)


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
    """All that an engine's pictures depend on: settings, weights, code and libraries."""
    acting = [*_ACTING, f"{_PREFIXES.get(settings.engine, settings.engine)}_"]
    told = {name: value for name, value in settings.model_dump().items() if name.startswith(tuple(acting))}
    weights = [found.commit or _stamp_files(found.folder) for found in _find_weights(settings)]
    weights += [_stamp_files(Path(lora.place)) for lora in settings.all_sdxl_loras]
    if settings.engine == "toon":
        weights.append(_stamp_files(understudy_toon.checkpoint_path()))
    libraries = [version(name) for name in ("torch", "diffusers", "transformers")]
    return repr((settings.engine, told, weights, _digest_code(), libraries))


def _name_weights(settings: Settings) -> str:
    """What an engine draws with, in words: folders, and hub ids with their commits."""
    if settings.engine == "toon":
        return f"the embedded model of understudy-toon {understudy_toon.__version__}"
    names = [
        f"{found.part.place} at {found.commit[:12]}" if found.commit else found.part.place
        for found in _find_weights(settings)
    ]
    return ", ".join(names) or "no weights"


def _find_weights(settings: Settings) -> list[Found]:
    return [find_part(settings, part) for part in list_parts(settings, settings.engine)]


def _stamp_files(place: Path | None) -> str:
    """A digest of the names, sizes and times of a folder's files, or of one file: weights are too large to
    be read. Empty where there is nothing."""
    if place is None or not place.exists():
        return ""
    digest = hashlib.sha256()
    for path in sorted(path for path in (place, *place.rglob("*")) if path.is_file()):
        status = path.stat()
        digest.update(f"{path.relative_to(place)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@cache
def _digest_code() -> str:
    """A digest of the code that draws."""
    package, digest = Path(understudy.__file__).parent, hashlib.sha256()
    for room in ("engines", "pose"):
        for path in sorted((package / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
