"""Untrusted pictures are decoded in a child process: without torch, with limits on memory and time.

`PictureDecoder` is the parent's side; `python -m understudy.decoder` is the child. They talk
over the child's stdin and stdout: each frame is four bytes of big-endian length, then
MessagePack. A file that breaks a decoder's memory or hangs it costs the child, not the service.
What a picture may be is the business of `pictures.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import resource
import signal
import sys
import warnings
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec
from PIL import AvifImagePlugin

from .errors import InvalidRequest, ServiceError, TooLarge, UnderstudyError
from .pictures import MAX_SIDE, check_length, decode_picture, name_picture

if TYPE_CHECKING:
    from .settings import Settings

# A PNG never needs more than its pixels do uncompressed, and one byte a row.
_MAX_REPLY_BYTES = 4 * MAX_SIDE * MAX_SIDE
_START_SECONDS = 60
# A child whose parent is gone ends so long after the time that one picture may take.
_ORPHAN_SECONDS = 5
_READY = bytes(4)
"""The child's first word: an empty frame."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one picture may take; `seconds` is wall time, `memory_bytes` the child's address space."""

    max_bytes: int
    max_pixels: int
    memory_bytes: int
    seconds: float


class _Decode(msgspec.Struct, frozen=True):
    data: bytes
    field: str | None


class _Decoded(msgspec.Struct, frozen=True, tag="decoded"):
    data: bytes


class _Refused(msgspec.Struct, frozen=True, tag="refused"):
    code: str
    message: str
    field: str | None

    def to_error(self) -> UnderstudyError:
        error = TooLarge if self.code == TooLarge.default_code else InvalidRequest
        return error(self.message, code=self.code, field=self.field)


_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(_Decode)
_reply_decoder = msgspec.msgpack.Decoder(_Decoded | _Refused)


class PictureDecoder:
    """Decodes untrusted pictures in up to `processes` child processes, one picture at a time each.

    A child is started when a picture first needs it, and again after it died. Use it from
    one event loop.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_pixels: int,
        memory_bytes: int,
        timeout_seconds: float = 20.0,
        processes: int = 1,
    ) -> None:
        self._limits = Limits(
            max_bytes=max_bytes, max_pixels=max_pixels, memory_bytes=memory_bytes, seconds=timeout_seconds
        )
        self._children = [_Child(self._limits) for _ in range(processes)]
        # Last in, first out: the child that is warm is used before a cold one is started.
        self._idle: asyncio.LifoQueue[_Child] = asyncio.LifoQueue()
        for child in self._children:
            self._idle.put_nowait(child)
        self._closed = False

    @classmethod
    def from_settings(cls, settings: Settings, *, processes: int = 1) -> Self:
        """The decoder that the settings describe."""
        return cls(
            max_bytes=settings.max_picture_bytes,
            max_pixels=settings.max_picture_pixels,
            memory_bytes=settings.decoder_memory_bytes,
            processes=processes,
        )

    @property
    def process_ids(self) -> list[int]:
        """The process ids of the children that are running."""
        return [child.process_id for child in self._children if child.process_id is not None]

    async def start(self) -> None:
        """Start one child now, so that the first picture need not wait for it.

        Raises:
            ServiceError: it does not start.
        """
        async with self._take_child() as child:
            await self._start_child(child)

    async def decode(self, data: bytes, field: str | None = None) -> bytes:
        """Decode a file; return it as a PNG of our own making: RGB, upright, at most 2048 x 2048.

        Raises:
            TooLarge: it has too many bytes or pixels, or needs too much memory.
            InvalidRequest: it is no picture that is read, or takes too long (`invalid_picture`).
            ServiceError: the decoder does not start, or is closed (`shutting_down`).
        """
        check_length(data, self._limits.max_bytes, field)
        async with self._take_child() as child:
            reply = await self._ask(child, _Decode(data, field))
        if isinstance(reply, _Refused):
            raise reply.to_error()
        return reply.data

    async def close(self) -> None:
        """End every child; a picture in the middle of its decoding is given up."""
        self._closed = True
        for child in self._children:
            child.kill()
        for _ in self._children:
            await (await self._idle.get()).stop()

    @contextlib.asynccontextmanager
    async def _take_child(self) -> AsyncIterator[_Child]:
        self._refuse_when_closed()
        child = await self._idle.get()
        try:
            yield child
        finally:
            self._idle.put_nowait(child)

    async def _ask(self, child: _Child, request: _Decode) -> _Decoded | _Refused:
        # A child may have been killed by another's hand while it was idle or at work. Only a
        # picture that ends a second, fresh child is the cause itself.
        for _ in range(2):
            await self._start_child(child)
            try:
                return await child.ask(request)
            except TimeoutError:
                return _refuse("takes too long to decode; send a simpler file", request.field)
            except (EOFError, OSError):
                continue
        self._refuse_when_closed()
        return _refuse("broke the decoder; save it anew with another program and send that", request.field)

    async def _start_child(self, child: _Child) -> None:
        """Start a child; once more when it was ended by another's hand while it started."""
        for is_last in (False, True):
            self._refuse_when_closed()
            try:
                await child.start()
                break
            except ServiceError:
                self._refuse_when_closed()
                if is_last:
                    raise
        self._refuse_when_closed()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ServiceError(
                "The service is stopping; try again in a moment.",
                code="shutting_down",
                status=503,
                retry_after_seconds=5,
            )


def _refuse(what: str, field: str | None) -> _Refused:
    return _Refused("invalid_picture", f"{name_picture(field)} {what}.", field)


class _Child:
    """One child process, started when it is needed, ended when an exchange with it fails."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._killed = False

    @property
    def process_id(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running else None

    async def start(self) -> None:
        """Start the process unless it runs, and wait until it is ready.

        Raises:
            ServiceError: it ends or stays silent instead.
        """
        if self.process_id is not None:
            return
        await self.stop()
        self._killed = False
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "understudy.decoder",
                    msgspec.json.encode(self._limits).decode(),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=2**20,
                    # None of the service's secrets. Each arena of glibc's allocator reserves
                    # address space, and that is what is limited.
                    env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "2"},
                    # Ctrl-C in a terminal is for the service alone.
                    start_new_session=True,
                )
                assert self._process.stdout is not None
                await self._process.stdout.readexactly(len(_READY))
        except BaseException as error:
            await self.stop()
            if isinstance(error, EOFError | OSError):
                raise ServiceError(
                    "The picture decoder does not start; run `understudy doctor` on the server."
                ) from error
            raise

    async def ask(self, request: _Decode) -> _Decoded | _Refused:
        """Send a picture, await the reply. The process must run.

        Raises:
            TimeoutError: there was no reply in time.
            EOFError, OSError: the process died.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._exchange(request)
        except BaseException:
            # A reply that nobody waited for must not answer the next picture.
            await self.stop()
            raise

    async def _exchange(self, request: _Decode) -> _Decoded | _Refused:
        assert self._process is not None
        writer, reader = self._process.stdin, self._process.stdout
        assert writer is not None
        assert reader is not None
        try:
            writer.writelines(_frame(request))
            await writer.drain()
        except RuntimeError as error:
            # What uvloop says of a pipe whose other end is gone, though the process is not yet seen to be.
            raise BrokenPipeError(str(error)) from error
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > _MAX_REPLY_BYTES:
            raise EOFError("the reply is longer than any picture")
        return _reply_decoder.decode(await reader.readexactly(length))

    def kill(self) -> None:
        """Kill the process, if there is one; whoever waits for its reply sees it end."""
        process = self._process
        if process is None or self._killed:
            return
        self._killed = True
        assert process.stdout is not None
        # One that has ended by itself is left to asyncio: a signal would reap it unseen.
        if not process.stdout.at_eof():
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def stop(self) -> None:
        """Kill the process, if there is one, and wait for its end. Nobody may be asking it."""
        self.kill()
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
        await process.stdout.read()
        await process.wait()


def _frame(message: _Decode | _Decoded | _Refused) -> list[bytes]:
    body = _encoder.encode(message)
    return [len(body).to_bytes(4, "big"), body]


def main() -> None:
    """The child: answer one picture after another until stdin ends."""
    limits = msgspec.json.decode(sys.argv[1], type=Limits)
    requests = sys.stdin.buffer
    # Whatever a library prints must not land among the frames.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_process(limits.memory_bytes)
    # Pillow's warnings (of many pixels, of odd EXIF) would let any client write to our log.
    warnings.simplefilter("ignore")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    replies.write(_READY)
    replies.flush()
    while (request := _read_request(requests)) is not None:
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + _ORPHAN_SECONDS)
        reply = _answer(request, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.writelines(_frame(reply))
        replies.flush()


def _limit_process(memory_bytes: int) -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        # macOS knows the address space limit by name but does not let it be set.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def _read_request(stream: BinaryIO) -> _Decode | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    body = stream.read(length)
    return _request_decoder.decode(body) if len(body) == length else None


def _answer(request: _Decode, limits: Limits) -> _Decoded | _Refused:
    try:
        picture = decode_picture(
            request.data,
            max_bytes=limits.max_bytes,
            max_pixels=limits.max_pixels,
            field=request.field,
        )
    except (InvalidRequest, TooLarge) as error:
        return _Refused(error.code, error.message, error.field)
    file = io.BytesIO()
    # Level 1: this file is read back at once, on the same machine.
    picture.save(file, "PNG", compress_level=1)
    return _Decoded(file.getvalue())


if __name__ == "__main__":
    main()
