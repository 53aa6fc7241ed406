"""Limits of a key: how many jobs it may submit in a minute and have at once, and how often it may poll.

Keys that clients make count against the limits of the key that they were made with, so that no
number of them is worth more than one.

Submits are counted in the key's row, so that every gateway on the database sees the same; polls,
which are many and cost little, in the process. Both by the generic cell rate algorithm (ITU-T
I.371), whose whole state is a time until which what was allowed is spent: each request moves it
on, and it never lies further ahead than the limit's time. Who was quiet may use all of it at once,
so that any one minute may see up to twice the limit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, case, select, update

from ..errors import RateLimited
from .tables import accounts, keys

MINUTE = 60.0

SKEW_SECONDS = 60.0
"""How far apart the clocks of gateways may be; what lies further ahead is of one that was set back."""

POSTS_BESIDE = 60
"""POSTs a minute that a key has beside two for each job that it may submit."""

COUNTED_NAMES = 20_000
"""Names that a process counts for before it forgets those that have everything left."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a key may do, and its account with all of its keys; 0 is no limit."""

    submits_per_minute: int = 0
    concurrent_jobs: int = 0
    account_concurrent_jobs: int = 0
    account_failures_per_day: int = 0

    @property
    def posts_per_minute(self) -> int:
        """POSTs of any kind that are read in a minute; 0 is no limit.

        Far more than a client needs: a reference for each job, and as many requests beside as no
        person sends.
        """
        return 2 * self.submits_per_minute + POSTS_BESIDE if self.submits_per_minute else 0


UNLIMITED = Limits()


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What is left of a limit; at `reset_at` all of it will be there again."""

    limit: int
    remaining: int
    reset_at: float

    def to_headers(self) -> dict[str, str]:
        """The headers that tell a client of it."""
        reset_at = datetime.fromtimestamp(math.ceil(self.reset_at), UTC)
        return {
            "x-rate-limit-limit": str(self.limit),
            "x-rate-limit-remaining": str(self.remaining),
            "x-rate-limit-reset-at-utc": reset_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def refuse(words: str, wait_seconds: float, allowance: Allowance | None = None) -> RateLimited:
    """The error for one more than is allowed: 429, with `Retry-After` and the limit's headers."""
    seconds = max(1, math.ceil(wait_seconds))
    return RateLimited(
        f"{words}; try again in {seconds} s.",
        retry_after_seconds=seconds,
        headers=allowance and allowance.to_headers(),
    )


# Submits, within a transaction.

_spent_until = case(
    (
        keys.c.submits_spent_until.between(bindparam("now"), bindparam("furthest")),
        keys.c.submits_spent_until,
    ),
    else_=bindparam("now"),
)
_take_submit = (
    update(keys)
    .where(keys.c.id == bindparam("of_key"), _spent_until <= bindparam("latest"))
    .values(submits_spent_until=_spent_until + bindparam("each"))
    .returning(keys.c.submits_spent_until)
)
_read_spent = select(keys.c.submits_spent_until).where(keys.c.id == bindparam("of_key"))
lock_account = select(accounts.c.id).where(accounts.c.id == bindparam("of_account")).with_for_update()
"""Makes gateways that count an account's jobs wait for one another, where one does not write alone."""


def take_submit(connection: Connection, key_id: str, per_minute: int, now: float) -> Allowance | RateLimited:
    """Count a submit of a key within its limit: what is left, or the refusal."""
    each = MINUTE / per_minute
    # Half of one's time less: a sum of fractions must not cost the last one.
    values = {
        "of_key": key_id,
        "now": now,
        "latest": now + MINUTE - each / 2,
        "furthest": now + MINUTE + SKEW_SECONDS,
        "each": each,
    }
    spent_until = connection.execute(_take_submit, values).scalar_one_or_none()
    if spent_until is not None:
        return _allowance(per_minute, MINUTE, spent_until - now, now)
    return read_submits(connection, key_id, per_minute, now)


def read_submits(connection: Connection, key_id: str, per_minute: int, now: float) -> Allowance | RateLimited:
    """What a key has left, or the refusal of one more; nothing is counted."""
    each = MINUTE / per_minute
    ahead = (connection.scalar(_read_spent, {"of_key": key_id}) or now) - now
    if ahead > MINUTE + SKEW_SECONDS:
        ahead = 0.0
    allowance = _allowance(per_minute, MINUTE, ahead, now)
    if ahead <= MINUTE - each / 2:
        return allowance
    return refuse(f"The key may submit {per_minute} requests a minute", ahead + each - MINUTE, allowance)


# Polls and bad keys, within the process.


class RateCounter:
    """Counts by name, within this process: at most `limit` in `seconds`, then a refusal."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.limit = limit
        self.seconds = seconds
        self._spent_until: dict[str, float] = {}
        self._most_names = COUNTED_NAMES

    @property
    def size(self) -> int:
        """How many names are remembered."""
        return len(self._spent_until)

    def take(self, name: str, limit: int | None = None) -> float:
        """Count one; 0, or how many seconds it comes too early: then it is not counted.

        `limit` is the name's own, if it has one.
        """
        now, each = self._clock(), self.seconds / (limit or self.limit)
        spent_until = self._spent_until.get(name, now)
        spent_until = max(spent_until, now)
        too_early = spent_until + each - self.seconds - now
        if too_early > each / 2:
            return too_early
        if len(self._spent_until) >= self._most_names:
            self._spent_until = {one: until for one, until in self._spent_until.items() if until > now}
            self._most_names = max(COUNTED_NAMES, 2 * len(self._spent_until))
        self._spent_until[name] = spent_until + each
        return 0.0

    def tell(self, name: str) -> Allowance:
        """What a name has left."""
        ahead = self._spent_until.get(name, 0.0) - self._clock()
        return _allowance(self.limit, self.seconds, ahead, time.time())


def _allowance(limit: int, seconds: float, ahead: float, now: float) -> Allowance:
    """What is left where all of it will be there again in `ahead` seconds."""
    ahead = max(ahead, 0.0)
    left = (seconds - ahead) / seconds * limit
    return Allowance(limit=limit, remaining=max(0, min(limit, math.floor(left + 0.01))), reset_at=now + ahead)
