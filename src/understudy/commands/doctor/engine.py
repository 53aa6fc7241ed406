"""What the doctor finds of what draws: weights, the pose reader, the decoder, and a worker that starts."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ...backup import is_in_use
from .finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from ...executors import WorkerState
    from ...settings import Settings

SDXL_SOURCES = ("sdxl_model", "sdxl_controlnet", "sdxl_ip_adapter", "sdxl_vae")
"""Settings that name weights, each a folder or a hub id."""


def find_missing_weights(settings: Settings) -> str | None:
    """A sentence when a folder of SDXL weights that the settings name is not there."""
    if settings.engine == "sdxl":
        for name in SDXL_SOURCES:
            source = getattr(settings, name)
            if source and _names_folder(source) and not Path(source).is_dir():
                return f"UNDERSTUDY_{name.upper()} names the folder {source!r}, which is not there."
    return None


def _names_folder(source: str) -> bool:
    """Whether a source of weights is written as a folder and not as a hub id (`owner/name`)."""
    return source.startswith((".", "~")) or Path(source).is_absolute()


def _check_engine(settings: Settings) -> Iterator[Finding]:
    if settings.engine == "toon":
        yield _check_toon()
    elif settings.engine == "sdxl":
        for name in SDXL_SOURCES:
            if source := getattr(settings, name):
                yield _check_weights(name, source)
    else:
        yield Finding(name="Engine", state=OK, detail="null, which needs no weights")
    if settings.block_pictures:
        yield _check_weights("classifier_model", settings.classifier_model)


def _check_toon() -> Finding:
    try:
        toon = version("understudy-toon")
    except PackageNotFoundError:
        return Finding(
            name="Engine",
            state=FAIL,
            detail="toon's weights are not installed",
            remedy="pip install understudy-toon",
        )
    from understudy_toon import checkpoint_path

    folder = checkpoint_path()
    if not (folder / "model_index.json").is_file():
        return Finding(
            name="Engine",
            state=FAIL,
            detail=f"toon's weights are not complete in {folder}",
            remedy="pip install --force-reinstall --no-deps understudy-toon",
        )
    return Finding(name="Engine", state=OK, detail=f"toon {toon}, weights in {folder}")


def _check_weights(name: str, source: str) -> Finding:
    """Whether a source of weights, a folder or a hub id, is on this machine."""
    setting = f"UNDERSTUDY_{name.upper()}"
    if Path(source).is_dir():
        return Finding(name="Engine", state=OK, detail=f"{setting}: {source}")
    if _names_folder(source):
        return Finding(
            name="Engine",
            state=FAIL,
            detail=f"{setting} names the folder {source}, which is not there",
            remedy=f"set {setting} to a folder that is, or to a hub id",
        )
    from huggingface_hub import constants

    cached = Path(constants.HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"
    if cached.is_dir():
        return Finding(name="Engine", state=OK, detail=f"{setting}: {source}, downloaded before")
    return Finding(
        name="Engine",
        state=WARN,
        detail=f"{setting}: {source} is not on this machine; the first start downloads it",
        remedy=f"hf download {source}, or set {setting} to a folder",
    )


def _check_pose_reader(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("rtmlib") is None:
        yield Finding(
            name="Pose reader",
            state=WARN,
            detail="rtmlib is not installed; poses out of photographs need it, skeletons and names do not",
            remedy='pip install "understudy[pose]"',
        )
    else:
        yield Finding(name="Pose reader", state=OK, detail=f"rtmlib {version('rtmlib')}")


def _check_decoder(settings: Settings) -> Iterator[Finding]:
    import uvloop

    from ...decoder import PictureDecoder

    async def decode() -> None:
        decoder = PictureDecoder.from_settings(settings)
        try:
            await decoder.decode(_smallest_picture())
        finally:
            await decoder.close()

    try:
        uvloop.run(decode())
    except Exception as error:
        yield Finding(
            name="Decoder",
            state=FAIL,
            detail=f"the process that reads pictures does not work: {error}",
            remedy="set UNDERSTUDY_DECODER_MEMORY_BYTES higher",
        )
    else:
        yield Finding(name="Decoder", state=OK, detail="the process that reads pictures starts")


def _smallest_picture() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


def check_worker(settings: Settings) -> Iterator[Finding]:
    """Whether a worker starts as the service would start it: the engine loads on its device."""
    if is_in_use(settings.data_dir):
        # A second engine may not fit on the device beside the service's own.
        yield Finding(
            name="Worker",
            state=OK,
            detail="not tried beside the service that runs; its own are told at GET /health/ready",
        )
        return
    if settings.engine == "sdxl" and any(finding.state == WARN for finding in _check_engine(settings)):
        yield Finding(
            name="Worker",
            state=WARN,
            detail="not tried: some weights are not on this machine yet",
            remedy="download the weights that are named above",
        )
        return
    started = asyncio.run(_try_worker(settings))
    if isinstance(started, str):
        yield Finding(
            name="Worker",
            state=FAIL,
            detail=f"does not start: {started}",
            remedy="see what the worker itself said above, and the lines that fail",
        )
    else:
        yield Finding(name="Worker", state=OK, detail=f"starts: {started.engine} on {started.device}")


async def _try_worker(settings: Settings) -> WorkerState | str:
    """A worker that has carried out an empty run, or why it did not; it is ended again."""
    from ...executors import WorkerLost
    from ...executors.local import LocalExecutor
    from ...executors.messages import Run

    # What is not on this machine is not downloaded for a question.
    os.environ["HF_HUB_OFFLINE"] = "1"
    executor = LocalExecutor(settings.model_copy(update={"devices": 1, "worker_idle_seconds": 0}))
    try:
        async for _ in executor.run(Run(tasks=[], pictures={})):
            pass
        return executor.describe_workers()[0]
    except WorkerLost as error:
        return error.message
    except OSError as error:
        return f"its process cannot be started ({error.strerror})."
    finally:
        await executor.close()


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _check_engine,
    _check_pose_reader,
    _check_decoder,
)
