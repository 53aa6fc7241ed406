"""Draws what a command asks for: with a running service, or with a worker of its own.

Both ways end in the same `Drawing`, so that what is printed and saved is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import Conflict, InferenceFailed, InvalidRequest, NotFound
from ..parameters import CHARACTER_PREFIX, MAX_SEED, Parameters
from .files import make_folders
from .progress import JobProgress
from .service import open_client

if TYPE_CHECKING:
    from ..client import Job
    from ..decoder import PictureDecoder
    from ..executors import Executor
    from ..executors.messages import Drawn, Run, Task
    from ..settings import Settings


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Pictures on disk, in the order they were asked for, and the full result they came with."""

    files: list[Path]
    result: dict[str, Any]


def draw_with_service(
    given: Mapping[str, Any],
    files: list[Path],
    *,
    model: str,
    api_key: str | None,
    base_url: str | None,
    progress: JobProgress,
) -> Drawing:
    """Ask a running service for the pictures, each saved as soon as it can be had; Ctrl-C cancels the job.

    Raises:
        UnderstudyError: the service cannot be reached, refuses, or the job ended FAILED.
    """
    from ..client.events import Arrivals

    arrivals = Arrivals()
    saved: list[Path] = []
    with open_client(api_key, base_url) as client:
        job = client.submit_async(model, **given)
        try:
            for snapshot in job.events():
                progress.show(snapshot)
                for image in arrivals.take(snapshot):
                    file = files[image["index"]]
                    try:
                        _save_image(job, image, file)
                    except NotFound:
                        # A job that has failed meanwhile has no pictures: the next event says why.
                        if snapshot["status"] == "COMPLETED":
                            raise
                    else:
                        saved.append(file)
            result = job.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(Conflict):
                job.cancel()
            progress.stop()
            words = f"; {_count_saved(saved)}" if saved else ""
            print(f"Request {job.request_id} is cancelled{words}.", file=sys.stderr)
            raise
    return Drawing(files=files, result=result)


def _save_image(job: Job, image: Mapping[str, Any], file: Path) -> None:
    """Download a picture; its file is whole or not there."""
    make_folders([file])
    with TemporaryDirectory(dir=file.parent, prefix=".understudy-") as folder:
        job.save_image(image, Path(folder, file.name)).replace(file)


def _count_saved(saved: list[Path]) -> str:
    if len(saved) == 1:
        return "1 picture was saved"
    return f"{len(saved)} pictures were saved" if saved else "nothing was saved"


def draw_alone(
    given: Mapping[str, Any], files: list[Path], *, model: str, settings: Settings, progress: JobProgress
) -> Drawing:
    """Draw the pictures in a worker of this process, without a service; Ctrl-C ends it.

    Raises:
        UnderstudyError: a picture cannot be read, the engine cannot be loaded or cannot draw.
    """
    import uvloop

    saved: list[Path] = []
    parameters = Parameters.model_validate(given)
    try:
        return uvloop.run(_draw_alone(parameters, files, model, settings, progress, saved))
    except KeyboardInterrupt:
        progress.stop()
        print(f"Stopped; {_count_saved(saved)}.", file=sys.stderr)
        raise


async def _draw_alone(
    parameters: Parameters,
    files: list[Path],
    model: str,
    settings: Settings,
    progress: JobProgress,
    saved: list[Path],
) -> Drawing:
    from ..decoder import PictureDecoder
    from ..executors import WorkerLost
    from ..executors.local import LocalExecutor
    from ..executors.messages import Run
    from ..jobs.tasks import build_tasks

    started = time.monotonic()
    decoder = PictureDecoder.from_settings(settings)
    executor = LocalExecutor(settings.model_copy(update={"devices": 1}))
    seed = secrets.randbelow(MAX_SEED + 1) if parameters.seed == -1 else parameters.seed
    try:
        # The engine loads while the pictures are read.
        await executor.start()
        progress.show({"status": "QUEUED", "stage": "fetching"})
        reference = await _read_picture(settings, decoder, parameters.ip_image, "ip_image")
        pose_picture = None
        if parameters.input_image is not None:
            pose_picture = await _read_picture(settings, decoder, parameters.input_image, "input_image")
        tasks, pictures = build_tasks(
            parameters, model=model, seed=seed, references=[reference], pose_picture=pose_picture
        )
        drawn = await _draw_run(executor, Run(tasks, pictures), files, progress, saved)
    except WorkerLost as error:
        raise InferenceFailed(error.message, code=error.code) from None
    finally:
        await asyncio.gather(executor.close(), decoder.close())
    return Drawing(files=files, result=_describe(parameters, seed, files, drawn, time.monotonic() - started))


async def _read_picture(settings: Settings, decoder: PictureDecoder, text: str, field: str) -> bytes:
    from ..pictures import PictureUrl, parse_picture_text

    if (data := _read_file(text)) is not None:
        return await decoder.decode(data, field)
    if text.startswith(CHARACTER_PREFIX):
        raise InvalidRequest(
            f"The parameter {field} names a saved character, which only a service knows; leave out --local.",
            code="invalid_picture",
            field=field,
        )
    source = parse_picture_text(text, field)
    if not isinstance(source, PictureUrl):
        return await decoder.decode(source.data, field)
    from ..fetch import PictureFetcher

    fetcher = PictureFetcher.from_settings(settings)
    try:
        return await decoder.decode(await fetcher.fetch(source.url, field), field)
    finally:
        await fetcher.close()


def _read_file(text: str) -> bytes | None:
    try:
        return Path(text).expanduser().read_bytes()
    except (OSError, ValueError):
        return None


async def _draw_run(
    executor: Executor, run: Run, files: list[Path], progress: JobProgress, saved: list[Path]
) -> list[Drawn]:
    """Carry out a run; each picture is in its file as soon as it is drawn, and its file in `saved`."""
    from ..executors.messages import Drawn, Starting, Step, TaskFailed

    numbers = {task.id: number for number, task in enumerate(run.tasks)}
    images = [_describe_waiting(number, task) for number, task in enumerate(run.tasks)]
    drawn: dict[str, Drawn] = {}
    async with contextlib.aclosing(executor.run(run)) as messages:
        async for message in messages:
            match message:
                case Starting():
                    progress.show({"status": "QUEUED", "stage": "loading"})
                case Step():
                    images[numbers[message.task_id]] |= {"state": "drawing", "step": message.step}
                case Drawn():
                    drawn[message.task_id] = message
                    image, file = images[numbers[message.task_id]], files[numbers[message.task_id]]
                    make_folders([file])
                    file.write_bytes(message.data)
                    saved.append(file)
                    scores = {"likeness": message.likeness, "pose": message.pose}
                    image |= {"state": "done", "step": image["steps"], **scores}
                case TaskFailed():
                    raise InferenceFailed(message.message, code=message.code)
            if isinstance(message, Step | Drawn):
                progress.show(
                    {
                        "status": "PROCESSING",
                        "stage": "drawing",
                        "step": sum(image["step"] for image in images),
                        "steps": sum(image["steps"] for image in images),
                        "images": images if len(images) > 1 else None,
                    }
                )
    return [drawn[task.id] for task in run.tasks]


def _describe_waiting(number: int, task: Task) -> dict[str, Any]:
    """A picture that is not begun, as a service would tell it."""
    pose = task.provenance["pose"]
    asked = {"asked_pose": pose} if isinstance(pose, str) else {}
    return {"index": number, "state": "waiting", "step": 0, "steps": task.steps * task.candidates, **asked}


def _describe(
    parameters: Parameters, seed: int, files: list[Path], drawn: list[Drawn], total_seconds: float
) -> dict[str, Any]:
    """The result as a service would give it, as far as there is one without a service."""
    warnings = list(dict.fromkeys(warning for picture in drawn for warning in picture.warnings))
    if parameters.webhook_url is not None:
        warnings.append("Only a service sends webhooks; webhook_url was ignored.")
    return {
        "status": "COMPLETED",
        "images": [
            {
                "content_type": picture.content_type,
                "file_name": file.name,
                "file_size": len(picture.data),
                "seed": picture.seed,
                "likeness": picture.likeness,
                "pose": picture.pose,
            }
            for file, picture in zip(files, drawn, strict=True)
        ],
        "seed": seed,
        "prompt": parameters.prompt,
        "warnings": warnings,
        "metrics": {
            "inference_time": sum(picture.compute_seconds for picture in drawn),
            "total_time": total_seconds,
        },
    }
