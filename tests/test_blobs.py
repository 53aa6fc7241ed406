"""Pictures on disk: whole or not there at all, wherever the disk refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from boundaries import DiskFull, watch_files
from understudy import blobs as module
from understudy.blobs import BlobStore


@pytest.mark.parametrize("refused", ["create", "fsync", "rename", "fsync of the folder"])
def test_what_cannot_be_kept_leaves_nothing(tmp_path: Path, refused: str) -> None:
    met: list[str] = []

    def refuse(boundary: str) -> None:
        met.append("fsync of the folder" if boundary == "fsync" and "rename" in met else boundary)
        if met[-1] == refused:
            raise DiskFull

    blobs = BlobStore(tmp_path)
    with watch_files(tmp_path, refuse), pytest.raises(OSError, match="No space left"):
        asyncio.run(blobs.put("image/png", b"a picture"))
    assert list(tmp_path.iterdir()) == []
    assert asyncio.run(blobs.get(asyncio.run(blobs.put("image/png", b"a picture")))) == b"a picture"


async def test_who_asks_at_once_whether_it_can_be_written_shares_one_look(tmp_path, monkeypatch):
    """Whoever reaches the port may ask: no number of them makes the disk busy."""
    created: list[str] = []
    is_full = False

    def watch(boundary: str) -> None:
        created.append(boundary)
        if is_full:
            raise DiskFull

    monkeypatch.setattr(module, "CHECK_SECONDS", 3600.0)
    blobs = BlobStore(tmp_path)
    with watch_files(tmp_path, watch):
        await asyncio.gather(*(blobs.check() for _ in range(50)))
        await blobs.check()
        assert created.count("create") == 1
        monkeypatch.setattr(module, "CHECK_SECONDS", 0.0)
        is_full = True
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                await blobs.check()
        is_full = False
        await blobs.check()
    assert list(tmp_path.iterdir()) == []
