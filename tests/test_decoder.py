"""The decoder child: its limits, and what becomes of the service when it dies."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable

import psutil
import pytest
import uvloop
from PIL import Image

from understudy.decoder import PictureDecoder
from understudy.errors import InvalidRequest, ServiceError, TooLarge

MEMORY_BYTES = 1_500_000_000


def make_decoder(**options: float) -> PictureDecoder:
    limits = {"max_bytes": 20_000_000, "max_pixels": 40_000_000, "memory_bytes": MEMORY_BYTES}
    return PictureDecoder(**{**limits, **options})


@pytest.fixture
async def decoder() -> AsyncIterator[PictureDecoder]:
    decoder = make_decoder()
    yield decoder
    await decoder.close()


def save(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A file of 40 megapixels that deflate to little: quick to send, slow to decode."""
    return save(Image.new("RGB", (6300, 6300)))


SMALL = save(Image.new("RGBA", (60, 40), (255, 0, 0, 0)), "WEBP")


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def wait_until_busy(process_id: int) -> None:
    """Wait until the child is at work on `slow`: only then does it hold so many pixels."""
    child = psutil.Process(process_id)
    await wait_until(lambda: child.memory_info().rss > 110_000_000)


async def test_pictures_come_back_as_png(decoder: PictureDecoder) -> None:
    assert decoder.process_ids == []
    with Image.open(io.BytesIO(await decoder.decode(SMALL, "ip_image"))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (60, 40))
        assert picture.getpixel((30, 20)) == (255, 255, 255)
    large = save(Image.effect_noise((4000, 3000), 50).convert("RGB"), "JPEG")
    with Image.open(io.BytesIO(await decoder.decode(large))) as picture:
        assert picture.size == (2048, 1536)


async def test_errors_are_those_of_pictures(decoder: PictureDecoder) -> None:
    with pytest.raises(InvalidRequest, match="The picture in ip_image is not a PNG") as caught:
        await decoder.decode(b"text", "ip_image")
    assert (caught.value.code, caught.value.field) == ("invalid_picture", "ip_image")
    with pytest.raises(InvalidRequest, match="empty"):
        await decoder.decode(b"", "ip_image")
    with pytest.raises(TooLarge, match="The picture in input_image has 20 MB") as caught:
        await decoder.decode(bytes(20_000_001), "input_image")
    assert (caught.value.code, caught.value.field) == ("too_large", "input_image")
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + save(Image.new("RGB", (1, 1)))[33:]
    with pytest.raises(TooLarge, match="169 megapixels"):
        await decoder.decode(bomb)
    assert len(decoder.process_ids) == 1
    assert await decoder.decode(SMALL)


async def test_the_child_is_light(decoder: PictureDecoder) -> None:
    await decoder.start()
    await decoder.decode(SMALL)
    (process_id,) = decoder.process_ids
    child = psutil.Process(process_id)
    assert child.memory_info().rss < 100_000_000
    assert not any("torch" in region.path for region in child.memory_maps())
    assert child.rlimit(psutil.RLIMIT_AS) == (MEMORY_BYTES, MEMORY_BYTES)
    assert set(child.environ()) <= {"PYTHONPATH", "MALLOC_ARENA_MAX", "LC_CTYPE"}


def test_the_child_imports_no_torch() -> None:
    code = "import sys, understudy.decoder; print(*sorted(name.split('.')[0] for name in sys.modules))"
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    names = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "PIL" in names
    assert not {"torch", "diffusers", "transformers", "numpy", "fastapi", "sqlalchemy"} & set(names)


async def test_memory_is_limited() -> None:
    decoder = make_decoder(memory_bytes=250_000_000)
    try:
        with pytest.raises(TooLarge, match="too much memory") as caught:
            await decoder.decode(save(Image.new("RGBA", (6300, 6300))), "ip_image")
        assert caught.value.field == "ip_image"
        assert await decoder.decode(SMALL)
    finally:
        await decoder.close()


async def test_time_is_limited(slow: bytes) -> None:
    decoder = make_decoder(timeout_seconds=0.1)
    try:
        await decoder.start()
        before = decoder.process_ids
        with pytest.raises(InvalidRequest, match="ip_image takes too long") as caught:
            await decoder.decode(slow, "ip_image")
        assert caught.value.code == "invalid_picture"
        assert not any(map(psutil.pid_exists, before))
        await decoder.start()
        assert await decoder.decode(SMALL)
    finally:
        await decoder.close()


async def test_killed_between_pictures(decoder: PictureDecoder) -> None:
    await decoder.decode(SMALL)
    for _ in range(3):
        (process_id,) = decoder.process_ids
        os.kill(process_id, signal.SIGKILL)
        assert await decoder.decode(SMALL)
        assert decoder.process_ids != [process_id]


def test_a_pipe_that_is_gone_before_its_process_is_under_the_services_own_loop() -> None:
    async def decode() -> None:
        decoder = make_decoder()
        await decoder.start()
        (process_id,) = decoder.process_ids
        # Standing still, it cannot end when its pipe does.
        os.kill(process_id, signal.SIGSTOP)
        (child,) = decoder._children
        child._process.stdin.transport.close()
        await asyncio.sleep(0.05)
        assert decoder.process_ids == [process_id]
        assert Image.open(io.BytesIO(await decoder.decode(SMALL))).size == (60, 40)
        assert decoder.process_ids != [process_id]
        await decoder.close()

    uvloop.run(decode())


async def test_killed_once_during_a_picture(decoder: PictureDecoder, slow: bytes) -> None:
    await decoder.start()
    (process_id,) = decoder.process_ids
    decoding = asyncio.create_task(decoder.decode(slow))
    await wait_until_busy(process_id)
    os.kill(process_id, signal.SIGKILL)
    assert await decoding
    assert decoder.process_ids != [process_id]


async def test_a_picture_that_ends_every_child(decoder: PictureDecoder, slow: bytes) -> None:
    await decoder.start()
    decoding = asyncio.create_task(decoder.decode(slow, "ip_image"))
    killed: set[int] = set()
    while len(killed) < 2:
        for process_id in set(decoder.process_ids) - killed:
            await wait_until_busy(process_id)
            os.kill(process_id, signal.SIGKILL)
            killed.add(process_id)
        await asyncio.sleep(0.005)
    with pytest.raises(InvalidRequest, match="The picture in ip_image broke the decoder") as caught:
        await decoding
    assert caught.value.code == "invalid_picture"
    assert await decoder.decode(SMALL)


async def test_a_cancelled_picture_does_not_answer_the_next(decoder: PictureDecoder, slow: bytes) -> None:
    await decoder.start()
    (process_id,) = decoder.process_ids
    decoding = asyncio.create_task(decoder.decode(slow))
    await wait_until_busy(process_id)
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
    with Image.open(io.BytesIO(await decoder.decode(SMALL))) as picture:
        assert picture.size == (60, 40)


async def test_many_pictures_share_few_processes() -> None:
    decoder = make_decoder(processes=2)
    try:
        sizes = [(16 + number, 16) for number in range(24)]
        files = await asyncio.gather(*(decoder.decode(save(Image.new("RGB", size))) for size in sizes))
        assert [Image.open(io.BytesIO(file)).size for file in files] == sizes
        assert len(decoder.process_ids) == 2
    finally:
        await decoder.close()


async def test_close_ends_the_children_and_what_they_do(slow: bytes) -> None:
    decoder = make_decoder(processes=2)
    decoding = [asyncio.create_task(decoder.decode(slow)) for _ in range(4)]
    await wait_until(lambda: len(decoder.process_ids) == 2)
    children = decoder.process_ids
    await decoder.close()
    results = await asyncio.gather(*decoding, return_exceptions=True)
    assert all(isinstance(result, ServiceError) and result.code == "shutting_down" for result in results)
    assert not any(map(psutil.pid_exists, children))
    with pytest.raises(ServiceError):
        await decoder.decode(SMALL)
    await make_decoder().close()


async def test_a_child_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    decoder = make_decoder()
    with pytest.raises(ServiceError, match="doctor"):
        await decoder.decode(SMALL)
    await decoder.close()


def test_the_child_ends_with_its_parent() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from understudy.decoder import PictureDecoder\n"
        "async def main():\n"
        "    decoder = PictureDecoder(max_bytes=1000, max_pixels=1000, memory_bytes=1_000_000_000)\n"
        "    await decoder.start()\n"
        "    print(*decoder.process_ids, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert parent.returncode == -signal.SIGKILL
    child_id = int(parent.stdout)
    if psutil.pid_exists(child_id):
        gone, _ = psutil.wait_procs([psutil.Process(child_id)], timeout=30)
        assert gone
