"""What the doctor finds of what works beside an engine: pose reader, decoder, and a worker that starts."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from ...backup import is_in_use
from .engine import find_missing_weights
from .finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from ...executors import WorkerState
    from ...settings import Settings


def _check_pose_reader(settings: Settings) -> Iterator[Finding]:
    from ...weights import POSE, find_part, list_parts

    if importlib.util.find_spec("rtmlib") is None:
        yield Finding(
            name="Pose reader",
            state=WARN,
            detail="rtmlib is not installed; poses out of photographs need it, skeletons and names do not",
            remedy=f'pip install "understudy[pose]" && understudy fetch {POSE}',
        )
    elif any(find_part(settings, part).state != "whole" for part in list_parts(settings, POSE)):
        yield Finding(
            name="Pose reader",
            state=WARN,
            detail=f"rtmlib {version('rtmlib')}, but not its models, which poses out of photographs need",
            remedy=f"understudy fetch {POSE}",
        )
    else:
        yield Finding(name="Pose reader", state=OK, detail=f"rtmlib {version('rtmlib')}, and its models")


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
    if missing := find_missing_weights(settings):
        # What gets them is told with the engine.
        yield Finding(name="Worker", state=WARN, detail=f"not tried: {missing.rstrip('.')}")
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
    _check_pose_reader,
    _check_decoder,
)
