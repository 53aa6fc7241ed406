"""Everything that a running service is made of, opened and closed in the right order."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..accounts.keys import KeyStore
from ..blobs import BlobStore
from ..catalog import Catalog
from ..database import Database, migrate_database
from ..decoder import PictureDecoder
from ..errors import ServiceError
from ..executors import Executor
from ..executors.local import LocalExecutor
from ..fetch import PictureFetcher
from ..jobs.characters import CharacterStore
from ..jobs.dispatcher import Dispatcher
from ..jobs.events import ChangeFeed
from ..jobs.files import FileStore
from ..jobs.inputs import InputReader
from ..jobs.store import Store
from ..jobs.sweeper import Sweeper
from ..meters import Meters
from ..settings import Settings

DECODER_PROCESSES = 2
"""Pictures decoded at the same time; the second child starts when it is first needed."""

LOCK_TRIES = 10
"""Tenths of a second to wait for the data folder's lock."""


@dataclass
class Service:
    """The parts of a running service."""

    settings: Settings
    catalog: Catalog
    database: Database
    store: Store
    files: FileStore
    keys: KeyStore
    characters: CharacterStore
    blobs: BlobStore
    decoder: PictureDecoder
    fetcher: PictureFetcher
    executor: Executor
    dispatcher: Dispatcher
    meters: Meters
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    database_is_damaged: bool = False

    def begin_stop(self) -> None:
        """Accept no more jobs and let waiting connections go; running jobs go on."""
        self.stopping.set()
        self.store.feed.wake_listeners()
        self.dispatcher.stop_claiming()


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Open a service on its data folder; close it gracefully at the end.

    Raises:
        ServiceError: another service uses the data folder (`data_dir_in_use`), or it cannot be
            written (`data_dir_unusable`).
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(settings.data_dir / "service.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ServiceError(
            f"The data folder {settings.data_dir} cannot be written ({error.strerror}); "
            "choose another with --data-dir.",
            code="data_dir_unusable",
        ) from None
    try:
        await _lock_data_dir(lock, settings.data_dir)
        await asyncio.to_thread(migrate_database, settings.data_dir)
        database = Database.open(settings.data_dir)
        meters = Meters()
        store = Store(database, ChangeFeed())
        files = FileStore(database)
        blobs = BlobStore(settings.data_dir / "files")
        decoder = PictureDecoder.from_settings(settings, processes=DECODER_PROCESSES)
        fetcher = PictureFetcher.from_settings(settings)
        executor = LocalExecutor(settings)
        dispatcher = Dispatcher(
            settings, store, files, blobs, InputReader(blobs, decoder, fetcher), executor, meters
        )
        sweeper = Sweeper(settings, store, files, blobs, meters)
        try:
            # This service is alone here: whatever an earlier run held is free.
            await store.free_leases()
            await sweeper.start()
            await decoder.start()
            await executor.start()
            await dispatcher.start()
            yield Service(
                settings=settings,
                catalog=Catalog(settings.engine),
                database=database,
                store=store,
                files=files,
                keys=KeyStore(database),
                characters=CharacterStore(database),
                blobs=blobs,
                decoder=decoder,
                fetcher=fetcher,
                executor=executor,
                dispatcher=dispatcher,
                meters=meters,
            )
        finally:
            await dispatcher.stop()
            await executor.close()
            await sweeper.stop()
            await decoder.close()
            await fetcher.close()
            await database.close()
    finally:
        os.close(lock)


async def _lock_data_dir(lock: int, data_dir: Path) -> None:
    # The lock goes with the process, however it ends: no stale lock file can be left.
    for patience in (0.1,) * LOCK_TRIES + (0.0,):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return
            # A restore that failed has removed the file: a lock on it keeps nobody away.
            break
        except OSError:
            # `doctor` and `restore` hold it for a moment to see whether anybody else does.
            await asyncio.sleep(patience)
    raise ServiceError(
        f"Another service uses the data folder {data_dir}; stop it or choose another with --data-dir.",
        code="data_dir_in_use",
    )
