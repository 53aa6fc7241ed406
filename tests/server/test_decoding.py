"""Pictures of many accounts, decoded in turns."""

from __future__ import annotations

import asyncio

import pytest

from understudy.decoder import PictureDecoder
from understudy.errors import InvalidRequest, RateLimited
from understudy.server import decoding
from understudy.server.decoding import FairDecoder


@pytest.fixture
async def decoder(monkeypatch):
    """A decoder of one process, in which an account may have ten pictures."""
    monkeypatch.setattr(decoding, "MOST_WAITING", 10)
    decoder = PictureDecoder(max_bytes=10**7, max_pixels=10**7, memory_bytes=1_500_000_000)
    yield FairDecoder(decoder, 1)
    await decoder.close()


async def test_a_flood_of_pictures_delays_another_account_by_one(decoder, picture_path):
    data, ended = picture_path.read_bytes(), []

    async def decode(account: str) -> None:
        assert (await decoder.decode(account, data)).startswith(b"\x89PNG")
        ended.append(account)

    flood = [asyncio.create_task(decode("many")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.gather(*(decode(account) for account in ("one", "two")), *flood)
    assert max(map(ended.index, ("one", "two"))) <= 3


async def test_so_many_pictures_of_an_account_wait_and_no_more(decoder, picture_path):
    data = picture_path.read_bytes()
    flood = [asyncio.create_task(decoder.decode("many", data)) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="10 pictures of the account"):
        await decoder.decode("many", data)
    flood[-1].cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    with pytest.raises(InvalidRequest):
        await decoder.decode("many", b"no picture")
    assert (await decoder.decode("many", data)).startswith(b"\x89PNG")
    assert not decoder._count
    assert not decoder._turns
