"""What a job was given -> the tasks a worker draws: its pictures fetched, decoded, and ready.

Untrusted bytes are never decoded here: the decoder's child does that.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..blobs import BlobStore
from ..decoder import PictureDecoder
from ..errors import InferenceFailed
from ..executors.messages import Task
from ..fetch import PictureFetcher
from ..parameters import Parameters
from .job import Job, list_files
from .tasks import build_tasks


class InputReader:
    """Gets the pictures of jobs from where they are."""

    def __init__(self, blobs: BlobStore, decoder: PictureDecoder, fetcher: PictureFetcher) -> None:
        self._blobs = blobs
        self._decoder = decoder
        self._fetcher = fetcher

    async def read_tasks(self, job: Job, engine: str) -> tuple[list[Task], dict[str, bytes]]:
        """The tasks of a job for an engine, one for each picture it asks for, and the files they name
        by digest.

        Raises:
            UnderstudyError: a picture cannot be had or read (the parameter is named).
        """
        names = list(job.inputs)
        pictures = await asyncio.gather(*(self._read_pictures(job.inputs[name], name) for name in names))
        by_name = dict(zip(names, pictures, strict=True))
        return build_tasks(
            Parameters.model_validate(job.parameters),
            model=job.model,
            engine=engine,
            seed=job.seed,
            references=by_name["ip_image"],
            pose_picture=by_name["input_image"][0] if "input_image" in by_name else None,
            id_prefix=f"{job.id}/{job.token}/",
            previews=job.picture_count > 1 and not job.is_free,
        )

    async def _read_pictures(self, source: dict[str, Any], name: str) -> list[bytes]:
        """Pictures as the decoder leaves them, from where the job says they are."""
        if "url" in source:
            return [await self._decoder.decode(await self._fetcher.fetch(source["url"], name), name)]
        return await asyncio.gather(*(self._read_file(file, source, name) for file in list_files(source)))

    async def _read_file(self, file: str, source: dict[str, Any], name: str) -> bytes:
        data = await self._blobs.get(file)
        if data is None:
            raise InferenceFailed(
                f"The file given as {name} has expired; upload it again.", code="invalid_picture", field=name
            )
        return data if source.get("decoded") else await self._decoder.decode(data, name)


def must_fetch(job: Job) -> bool:
    """Whether a picture of the job has to come from elsewhere."""
    return any("url" in source for source in job.inputs.values())
