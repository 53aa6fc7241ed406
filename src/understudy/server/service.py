"""Everything that a running service is made of, opened and closed in the right order."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..accounts.accounts import AccountStore
from ..accounts.credits import CreditStore
from ..accounts.idempotency import IdempotencyStore
from ..accounts.keys import Key, KeyStore
from ..accounts.limits import MINUTE, POSTS_BESIDE, Limits, RateCounter, refuse
from ..accounts.usage import UsageStore
from ..accounts.webhooks import WebhookStore
from ..blobs import BlobStore
from ..catalog import Catalog
from ..content_policy import PromptPolicy
from ..database import Database, migrate_database
from ..decoder import PictureDecoder
from ..errors import RateLimited, ServiceError
from ..executors import Executor
from ..executors.local import LocalExecutor
from ..fetch import FetchPlaces, PictureFetcher
from ..jobs.characters import CharacterStore
from ..jobs.deliverer import Deliverer
from ..jobs.dispatcher import Dispatcher
from ..jobs.events import ChangeFeed
from ..jobs.files import FileStore, StoredFile
from ..jobs.inputs import InputReader
from ..jobs.retention import Retention
from ..jobs.store import Store
from ..jobs.sweeper import Sweeper
from ..meters import Meters
from ..settings import Settings
from .bodies import end_body
from .decoding import FairDecoder
from .key_watch import KeyWatch

POLL_SECONDS = 10
"""Polls are counted over so long: they may come in bursts."""

LISTS_PER_SECOND = 5
"""Pages of lists that a key may read, over as long as polls: each costs what hundreds of polls do."""

DECODER_PROCESSES = 2
"""Pictures decoded at the same time; the second child starts when it is first needed."""

LOCK_TRIES = 10
"""Tenths of a second to wait for the data folder's lock."""


@dataclass
class Service:
    """The parts of a running service."""

    settings: Settings
    catalog: Catalog
    policy: PromptPolicy
    database: Database
    store: Store
    files: FileStore
    accounts: AccountStore
    keys: KeyStore
    key_watch: KeyWatch
    credits: CreditStore
    usage: UsageStore
    idempotency: IdempotencyStore
    characters: CharacterStore
    webhooks: WebhookStore
    blobs: BlobStore
    decoder: FairDecoder
    fetcher: PictureFetcher
    fetch_places: FetchPlaces
    executor: Executor
    dispatcher: Dispatcher
    meters: Meters
    posts: RateCounter
    polls: RateCounter | None
    bad_keys: RateCounter | None
    streams: Counter[str] = field(default_factory=Counter)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    database_is_damaged: bool = False

    def may_show(self, file: StoredFile, account_id: str | None) -> bool:
        """Whether a picture may be shown to an account, or to anybody (None).

        Where pictures are judged, one that was given is its account's alone: nobody has judged it yet.
        """
        return not self.settings.block_pictures or file.was_drawn or file.account_id == account_id

    def count_poll(self, name: str) -> dict[str, str]:
        """Count a poll by what is polled: headers for what is left, none where there is no limit.

        Raises:
            RateLimited: it is asked for too often.
        """
        if self.polls is None:
            return {}
        wait_seconds = self.polls.take(name)
        allowance = self.polls.tell(name)
        if wait_seconds:
            raise refuse("This is asked for too often", wait_seconds, allowance)
        return allowance.to_headers()

    def count_post(self, key: Key) -> None:
        """Count a POST before it is read, whatever it asks for.

        Raises:
            RateLimited: the key has sent as many as it may.
        """
        limit = key.limits(self.usual_limits).posts_per_minute
        if limit and (wait_seconds := self.posts.take(key.counted_as, limit)):
            raise refuse(f"The key may send {limit} requests of any kind a minute", wait_seconds)

    def count_list(self, key: Key) -> None:
        """Count a page of a list, where polls are counted.

        Raises:
            RateLimited: the key has read as many as it may.
        """
        limit = LISTS_PER_SECOND * POLL_SECONDS
        if self.polls is not None and (wait_seconds := self.polls.take(f"lists of {key.counted_as}", limit)):
            raise refuse(f"The key may read {LISTS_PER_SECOND} pages of lists a second", wait_seconds)

    def open_stream(self, key: Key) -> Callable[[], None]:
        """Count a stream of events of a key; call what is returned at its end.

        Raises:
            RateLimited: the key has as many open as it may have.
        """
        name, most = key.counted_as, self.settings.event_streams or 0
        if most and self.streams[name] >= most:
            raise RateLimited(
                f"The key has {most} streams of events open, as many as it may have; close one of them.",
                retry_after_seconds=5,
            )
        self.streams[name] += 1

        def close() -> None:
            self.streams[name] -= 1
            self.streams += Counter()

        return close

    @property
    def usual_limits(self) -> Limits:
        """The limits of a key that has none of its own."""
        settings = self.settings
        return Limits(
            submits_per_minute=settings.submits_per_minute or 0,
            concurrent_jobs=settings.concurrent_jobs or 0,
            account_concurrent_jobs=settings.account_concurrent_jobs or 0,
            account_failures_per_day=settings.account_failures_per_day or 0,
        )

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
        places = FetchPlaces(store.feed.wake)
        catalog = Catalog(settings)
        executor = LocalExecutor(settings)
        policy = PromptPolicy.from_settings(settings)
        dispatcher = Dispatcher(
            settings,
            policy,
            store,
            files,
            blobs,
            InputReader(blobs, decoder, fetcher),
            places,
            executor,
            meters,
            catalog.engines,
        )
        idempotency = IdempotencyStore(database)
        sweeper = Sweeper(settings, Retention(store), files, blobs, idempotency, meters)
        webhooks = WebhookStore(database)
        keys = KeyStore(database)
        deliverer = Deliverer(settings, webhooks, store, meters, end_body)
        try:
            # This service is alone here: whatever an earlier run held is free.
            await store.free_leases()
            await sweeper.start()
            await decoder.start()
            await executor.start()
            await dispatcher.start()
            await deliverer.start()
            yield Service(
                settings=settings,
                catalog=catalog,
                policy=policy,
                database=database,
                store=store,
                files=files,
                accounts=AccountStore(database),
                keys=keys,
                key_watch=KeyWatch(keys),
                credits=CreditStore(database),
                usage=UsageStore(database),
                idempotency=idempotency,
                characters=CharacterStore(database),
                webhooks=webhooks,
                blobs=blobs,
                decoder=FairDecoder(decoder, DECODER_PROCESSES),
                fetcher=fetcher,
                fetch_places=places,
                executor=executor,
                dispatcher=dispatcher,
                meters=meters,
                posts=RateCounter(POSTS_BESIDE, MINUTE),
                polls=_counter((settings.polls_per_second or 0) * POLL_SECONDS, POLL_SECONDS),
                bad_keys=_counter(settings.bad_keys_per_minute, MINUTE),
            )
        finally:
            await dispatcher.stop()
            await deliverer.stop()
            await executor.close()
            await sweeper.stop()
            await decoder.close()
            await fetcher.close()
            await database.close()
    finally:
        os.close(lock)


def _counter(limit: int, seconds: float) -> RateCounter | None:
    return RateCounter(limit, seconds) if limit else None


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
