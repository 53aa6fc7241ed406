"""Hostile and odd pictures through the decoder's child: each has its end, within its time and memory."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from PIL import Image

from memory_watch import MemoryWatch
from understudy.decoder import PictureDecoder
from understudy.errors import UnderstudyError

from .gallery import GALLERY, ODD, READ, quarters, save

MEMORY_BYTES = 1_500_000_000
TIMEOUT_SECONDS = 10.0
PEAK_BYTES = 500_000_000
"""What no file of the gallery may make the child take: the address space that it may have is larger."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def decoder() -> AsyncIterator[PictureDecoder]:
    decoder = PictureDecoder(
        max_bytes=20_000_000,
        max_pixels=40_000_000,
        memory_bytes=MEMORY_BYTES,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    await decoder.start()
    yield decoder
    await decoder.close()


@pytest.mark.parametrize("name", GALLERY)
async def test_a_hostile_picture_has_its_end(decoder: PictureDecoder, name: str) -> None:
    make, expected = GALLERY[name]
    data = make()
    before = decoder.process_ids
    begun = time.monotonic()
    with MemoryWatch(lambda: decoder.process_ids) as memory:
        (found,) = await asyncio.gather(decoder.decode(data, "ip_image"), return_exceptions=True)
    if isinstance(found, UnderstudyError):
        end = found.code
        assert found.field == "ip_image"
        assert found.message.startswith("The picture in ip_image ")
        assert found.message.endswith(".")
    else:
        end = READ
        assert Image.open(io.BytesIO(found)).mode == "RGB"
    assert end == expected
    assert time.monotonic() - begun < TIMEOUT_SECONDS + 5
    assert memory.peak_bytes < PEAK_BYTES
    # None of these ends the child, and the next picture finds it well.
    assert decoder.process_ids == before
    assert await decoder.decode(save(quarters(), "PNG"), "ip_image")


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_picture_is_read_as_it_looks(decoder: PictureDecoder, name: str) -> None:
    make, size, pixels = ODD[name]
    with Image.open(io.BytesIO(await decoder.decode(make(), "ip_image"))) as picture:
        assert picture.size == size
        for at, colour in pixels.items():
            found = picture.getpixel(at)
            assert all(abs(a - b) <= 12 for a, b in zip(found, colour, strict=True)), (at, found)
