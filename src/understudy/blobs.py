"""Pictures on disk: bytes by name.

Knows no job and no account. Names are unguessable, so that a file's address is its key.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import obstore
from obstore.store import LocalStore

_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class BlobStore:
    """Files in a folder; each is whole or not there at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store = LocalStore(folder)

    async def put(self, content_type: str, data: bytes) -> str:
        """Keep bytes under a new unguessable name (128 random bits); return the name."""
        name = f"{secrets.token_hex(16)}.{_EXTENSIONS[content_type]}"
        await obstore.put_async(self._store, name, data)
        return name

    async def get(self, name: str) -> bytes | None:
        """The bytes of a name; None when there are none."""
        try:
            result = await obstore.get_async(self._store, name)
            return bytes(await result.bytes_async())
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        """Forget a name; nothing happens when it is not there."""
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return

    async def list_names(self) -> list[str]:
        """Every name, in no order."""
        names: list[str] = []
        async for chunk in obstore.list(self._store):
            names.extend(entry["path"] for entry in chunk)
        return names

    async def check(self) -> None:
        """Write and forget a small file.

        Raises:
            OSError: the folder cannot be written.
        """
        name = await self.put("image/png", b"check")
        await self.delete(name)
