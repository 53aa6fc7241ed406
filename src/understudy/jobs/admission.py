"""What a new job must pass to be put in the queue: room, its key's and account's limits, its price."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from ..accounts import credits
from ..accounts.limits import Allowance, Limits, lock_account, read_submits, refuse, take_submit
from ..accounts.usage import DAY_SECONDS, count_ends, format_day
from ..errors import RateLimited, UnderstudyError
from . import statements
from .job import NewJob


class Admission:
    """Admits jobs, each within the transaction that makes it."""

    def __init__(self) -> None:
        # How many wait, as far as submits tell: counting at each would cost more than the rest.
        self._most_queued: int | None = None

    def admit(
        self, connection: Connection, new: NewJob, queue_limit: int, limits: Limits
    ) -> Allowance | UnderstudyError | None:
        """Count a job against its limits and hold its price: what is left of them, or the refusal.

        What is refused holds nothing, and counts as a submit if it was too dear.
        """
        if limits.concurrent_jobs or limits.account_concurrent_jobs:
            connection.execute(lock_account, {"of_account": new.account_id})
        # The one thing that a change touches beside its connection: done twice, the bound is only
        # tighter, and whenever it is reached the jobs are counted. What comes back to the queue is
        # not counted until then: the bound can be passed by as many jobs as were running.
        if self._most_queued is None or self._most_queued >= queue_limit:
            self._most_queued = connection.scalar(statements.count_queued) or 0
        refusal = _find_refusal(
            connection, new.account_id, new.key_id, limits, self._most_queued, queue_limit
        )
        if refusal is not None:
            return refusal
        self._most_queued += 1
        allowance = None
        if limits.submits_per_minute:
            allowance = take_submit(connection, new.key_id, limits.submits_per_minute, time.time())
            if isinstance(allowance, RateLimited):
                return allowance
        price = new.price_microcredits
        if price is not None and not credits.hold(connection, new.account_id, new.id, price):
            too_dear = credits.refuse_price(connection, new.account_id, price)
            too_dear.headers |= {} if allowance is None else allowance.to_headers()
            return too_dear
        return allowance

    def foresee(
        self,
        connection: Connection,
        account_id: str,
        key_id: str,
        queue_limit: int,
        limits: Limits,
        least_price: int,
    ) -> dict[str, str]:
        """What a job would be admitted with now, as headers; nothing is counted.

        Raises:
            RateLimited, InsufficientCredits: it would be refused.
        """
        queued = self._most_queued or 0
        if queued >= queue_limit:
            # Not told to the transactions beside, whose jobs it may not see yet.
            queued = connection.scalar(statements.count_queued) or 0
        if refusal := _find_refusal(connection, account_id, key_id, limits, queued, queue_limit):
            raise refusal
        headers: dict[str, str] = {}
        if limits.submits_per_minute:
            allowance = read_submits(connection, key_id, limits.submits_per_minute, time.time())
            if isinstance(allowance, RateLimited):
                raise allowance
            headers = allowance.to_headers()
        if least_price and credits.read_balance(connection, account_id) < least_price:
            too_dear = credits.refuse_price(connection, account_id, least_price, "at least ")
            too_dear.headers |= headers
            raise too_dear
        return headers


def _find_refusal(
    connection: Connection, account_id: str, key_id: str, limits: Limits, queued: int, queue_limit: int
) -> RateLimited | None:
    refusal = (
        _check_unended(connection, account_id, key_id, limits)
        or _check_failures(connection, account_id, limits)
        if queued < queue_limit
        else RateLimited(
            f"The queue is full ({queue_limit} jobs wait); try again in a few seconds.",
            code="queue_full",
            retry_after_seconds=5,
        )
    )
    if refusal is not None:
        refusal.headers |= _read_headers(connection, key_id, limits)
    return refusal


def _read_headers(connection: Connection, key_id: str, limits: Limits) -> dict[str, str]:
    """What is left of a key's submits, as headers."""
    if not limits.submits_per_minute:
        return {}
    told = read_submits(connection, key_id, limits.submits_per_minute, time.time())
    return told.headers if isinstance(told, RateLimited) else told.to_headers()


def _check_unended(
    connection: Connection, account_id: str, key_id: str, limits: Limits
) -> RateLimited | None:
    """The refusal of a job whose key or account has as many without an end as it may have."""
    if not (limits.concurrent_jobs or limits.account_concurrent_jobs):
        return None
    values = {"of_account": account_id, "of_key": key_id}
    count = connection.execute(statements.count_unended, values).one()
    for whose, has, most in (
        ("key", count.of_key, limits.concurrent_jobs),
        ("account", count.of_account, limits.account_concurrent_jobs),
    ):
        if most and has >= most:
            return RateLimited(
                f"The {whose} has {has} jobs that have not ended, as many as it may have at once; "
                "wait for one of them.",
                retry_after_seconds=5,
            )
    return None


def _check_failures(connection: Connection, account_id: str, limits: Limits) -> RateLimited | None:
    """The refusal of a job whose account has as many that failed today as it may have.

    What fails costs nothing, but has its rows; who pays for others may have as many beside.
    """
    if not limits.account_failures_per_day:
        return None
    now = time.time()
    completed, failed = count_ends(connection, account_id, format_day(now))
    if failed < limits.account_failures_per_day + completed:
        return None
    return refuse(
        f"{failed} requests of the account failed or were cancelled today, and {completed} were completed",
        DAY_SECONDS - now % DAY_SECONDS,
    )
