"""What has had its time: jobs that waited too long, and rows that nobody asks for any more.

Each change takes a share at a time, so that a transaction stays short however much there is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, or_, select, update

from ..accounts.tables import keys
from . import statements
from .ends import follow_ends, forget_jobs
from .files import expire_files
from .store import Store
from .tables import jobs, waiting

SHARE = 500
"""The rows of one transaction."""


class Retention:
    """Ends and forgets what has had its time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._database = store.database

    async def expire_waiting(self, submitted_before: float, limit: int = SHARE) -> int:
        """End up to `limit` waiting jobs that were submitted before a time as FAILED (`expired`).

        Returns how many; a transaction stays short however much there is to end.
        """
        now = time.time()
        some = select(jobs.c.sequence).where(waiting, jobs.c.created_at < submitted_before).limit(limit)
        end = (
            update(jobs)
            .where(jobs.c.sequence.in_(some.scalar_subquery()))
            .values(
                error_code="expired",
                error="The request waited too long for a worker; send it again.",
                **statements.FAILING,
            )
            .returning(*statements.ended_row)
        )

        def write(connection: Connection) -> Sequence[str]:
            ended = connection.execute(end, {"now": now}).all()
            follow_ends(connection, ended)
            for row in ended:
                expire_files(connection, row.id, now)
            return [row.id for row in ended]

        return len(await self._database.write(write, self._store.publish_all))

    async def forget_ended(self, ended_before: float, limit: int = SHARE) -> int:
        """Delete up to `limit` rows of jobs that ended before a time; their files expire now.

        Returns how many; a transaction stays short however much there is to forget.
        """
        some = select(jobs.c.sequence).where(jobs.c.ended_at < ended_before).limit(limit)
        old = jobs.c.sequence.in_(some.scalar_subquery())
        return len(await self._database.write(lambda c: forget_jobs(c, old), self._store.publish_all))

    async def forget_keys(self, ended_before: float, limit: int = SHARE) -> int:
        """Delete up to `limit` rows of keys that were revoked or expired before a time; return how many.

        One stays as long as a job was counted against it, or a key that is there shares its limits.
        """
        shared = select(keys.c.counted_as).where(keys.c.counted_as.is_not(None))
        some = (
            select(keys.c.id)
            .where(
                or_(keys.c.revoked_at < ended_before, keys.c.expires_at < ended_before),
                keys.c.id.not_in(shared),
                ~select(jobs.c.id).where(jobs.c.key_id == keys.c.id).exists(),
            )
            .limit(limit)
        )
        forget = delete(keys).where(keys.c.id.in_(some.scalar_subquery()))
        return await self._database.write(lambda connection: connection.execute(forget).rowcount)
