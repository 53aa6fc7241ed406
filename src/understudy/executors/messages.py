"""What the dispatcher and a worker say to each other.

One protocol for every executor: a run of tasks goes in, a stream of messages comes out.
Messages are typed structures; on a pipe each is one frame: four bytes of big-endian length,
then MessagePack. A picture in a message is a file's bytes, never raw pixels.
"""

from __future__ import annotations

import io
from typing import Any

import msgspec

MAX_FRAME_BYTES = 512 * 1024 * 1024


class Task(msgspec.Struct, kw_only=True, frozen=True):
    """One picture to draw.

    `references` and `pose_picture` are digests of PNG files that come with the run (already decoded
    and checked, RGB); the references show one character. At most one of `pose_picture` and
    `keypoints` is given: 18 keypoints [x, y, confidence] as fractions of the canvas, confidence 0
    for a hidden one.
    `fit_pose` says that keypoints come from the library and are to be fitted to the canvas.
    `provenance` is written into the file as it is. `preview` asks for a small copy of the picture.
    `engine` is the name of the engine that draws it, the worker's first when None.
    """

    id: str
    prompt: str
    references: list[str]
    engine: str | None = None
    negative_prompt: str = ""
    guidance_scale: float = 3.0
    steps: int = 10
    width: int = 1024
    height: int = 1024
    seed: int = 0
    candidates: int = 1
    ip_scale: float | None = None
    pose_scale: float | None = None
    pose_picture: str | None = None
    keypoints: list[tuple[float, float, float]] | None = None
    fit_pose: bool = False
    output_format: str = "png"
    provenance: dict[str, Any] = {}
    preview: bool = False


class Run(msgspec.Struct, tag="run", frozen=True):
    """To the worker: draw these tasks, then say `Finished`.

    `pictures` has each file that a task names by its digest, once: a sheet has many tasks and one
    character.
    """

    tasks: list[Task]
    pictures: dict[str, bytes]

    @property
    def engine(self) -> str | None:
        """The engine that its tasks name, which is one; None of a run without tasks."""
        return self.tasks[0].engine if self.tasks else None


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    """To the worker: stop these tasks between two denoising steps."""

    task_ids: list[str]


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """From the worker: an engine is loaded, the first before any run and others after `Loading`.

    `resident` has the names of all that are loaded now.
    """

    engine: str
    version: str
    device: str
    load_seconds: float
    batch_size: int = 1
    resident: list[str] = []


class Loading(msgspec.Struct, tag="loading", frozen=True):
    """From the worker: in a run, an engine begins to be loaded; `resident` has those that stay.

    `Ready` follows, or the `TaskFailed` of each task that needs it.
    """

    engine: str
    resident: list[str]


class LoadFailed(msgspec.Struct, tag="load_failed", frozen=True):
    """From the worker: its first engine cannot be loaded; the worker ends."""

    code: str
    message: str


class Step(msgspec.Struct, tag="step", frozen=True):
    """From the worker: a task has done `step` of `steps` (over all its candidates).

    Step 0 says that the task has begun. `preview` is a small JPEG, every few steps.
    """

    task_id: str
    step: int
    steps: int
    preview: bytes | None = None


class Drawn(msgspec.Struct, tag="drawn", frozen=True, kw_only=True):
    """From the worker: a task's picture, encoded, with its provenance inside.

    `likeness` and `pose` are scores from 0 to 1, None where the engine cannot tell. `preview` is a
    small JPEG, where the task asks for one and previews are not hidden.
    """

    task_id: str
    data: bytes
    content_type: str
    seed: int
    compute_seconds: float
    likeness: float | None = None
    pose: float | None = None
    warnings: list[str] = []
    preview: bytes | None = None


class TaskFailed(msgspec.Struct, tag="task_failed", frozen=True):
    """From the worker: a task has no picture; `code` is stable, `cancelled` when it was asked to stop.

    `field` is the parameter at fault, if one is, and `pictures` the digests of those in it that are.
    """

    task_id: str
    code: str
    message: str
    field: str | None = None
    pictures: list[str] = []


class Released(msgspec.Struct, tag="released", frozen=True):
    """From the worker: nothing of the run is left to be drawn, and the next may come.

    What is still being encoded is sent beside it; `Finished` comes last.
    """


class Finished(msgspec.Struct, tag="finished", frozen=True):
    """From the worker: every task of the run has had its `Drawn` or `TaskFailed`."""


class Starting(msgspec.Struct, tag="starting", frozen=True):
    """From the executor itself: a worker, or the run's engine in one, is being started for this run."""


ToWorker = Run | Cancel
FromWorker = Ready | Loading | LoadFailed | Step | Drawn | TaskFailed | Released | Finished

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode_frame(message: ToWorker | FromWorker) -> bytes:
    """A message as one frame: length, then MessagePack."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode_to_worker(body: bytes) -> ToWorker:
    """A frame's body, as the worker reads it."""
    return _to_worker.decode(body)


def decode_from_worker(body: bytes) -> FromWorker:
    """A frame's body, as the executor reads it."""
    return _from_worker.decode(body)


def read_frame(pipe: io.RawIOBase) -> bytes | None:
    """The next frame's body; None at the end of the pipe, in the middle of a frame too."""
    head = _read_exactly(pipe, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME_BYTES:
        raise ValueError("the frame is too long")
    return _read_exactly(pipe, length)


def _read_exactly(pipe: io.RawIOBase, count: int) -> bytes | None:
    chunks = bytearray()
    while len(chunks) < count:
        chunk = pipe.read(count - len(chunks))
        if not chunk:
            return None
        chunks += chunk
    return bytes(chunks)
