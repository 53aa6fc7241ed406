"""Pictures on disk: whole or not there at all, wherever the disk refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from boundaries import DiskFull, watch_files
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
