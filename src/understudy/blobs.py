"""Pictures on disk: bytes by name.

Knows no job and no account. Names are unguessable, so that a file's address is its key. What was
put is on disk, like the row that will name it, before anybody is told of it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import OrderedDict
from pathlib import Path

_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}

CHECK_SECONDS = 1.0
"""How long it is known whether a file can be written: anybody may ask, and each look costs a sync."""

RECENT_BYTES = 32_000_000
"""What is kept in memory of the files that were read last."""


class BlobStore:
    """Files in a folder; each is whole or not there at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A character's picture is read for each job that is given it.
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._recent_bytes = 0
        self._checked: asyncio.Task[None] | None = None
        self._checked_at = 0.0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def put(self, content_type: str, data: bytes) -> str:
        """Keep bytes under a new unguessable name (128 random bits); return the name.

        Raises:
            OSError: they cannot be written; nothing is left of them.
        """
        name = f"{secrets.token_hex(16)}.{_EXTENSIONS[content_type]}"
        await asyncio.to_thread(self._write, name, data)
        return name

    async def get(self, name: str) -> bytes | None:
        """The bytes of a name; None when there are none."""
        data = self._recent.get(name)
        if data is not None:
            self._recent.move_to_end(name)
            return data
        try:
            data = await asyncio.to_thread((self.folder / name).read_bytes)
        except FileNotFoundError:
            return None
        self._remember(name, data)
        return data

    async def delete(self, name: str) -> None:
        """Forget a name; nothing happens when it is not there."""
        await asyncio.to_thread((self.folder / name).unlink, missing_ok=True)
        # After it, for it may have been read meanwhile.
        self._recent_bytes -= len(self._recent.pop(name, b""))

    async def list_names(self) -> list[str]:
        """Every name, in no order; what a crash left half-written is among them."""
        return await asyncio.to_thread(os.listdir, self.folder)

    async def check(self) -> None:
        """Write and forget a small file, once for all who ask within a second.

        Raises:
            OSError: the folder cannot be written.
        """
        now = time.monotonic()
        if self._checked is None or now - self._checked_at > CHECK_SECONDS:
            self._checked, self._checked_at = asyncio.create_task(self._write_and_forget()), now
        # It goes on for the others though one of them leaves.
        await asyncio.shield(self._checked)

    async def _write_and_forget(self) -> None:
        await self.delete(await self.put("image/png", b"check"))

    def _remember(self, name: str, data: bytes) -> None:
        if name in self._recent or not (self.folder / name).exists():
            return
        self._recent[name] = data
        self._recent_bytes += len(data)
        while self._recent_bytes > RECENT_BYTES:
            _, oldest = self._recent.popitem(last=False)
            self._recent_bytes -= len(oldest)

    def _write(self, name: str, data: bytes) -> None:
        path, unfinished = self.folder / name, self.folder / f"{name}.unfinished"
        try:
            with open(unfinished, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
            self._sync_folder()
        except BaseException:
            unfinished.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise

    def _sync_folder(self) -> None:
        # A file's name is on disk only when its folder is.
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
