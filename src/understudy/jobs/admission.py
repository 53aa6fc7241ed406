"""What a new job must pass to be put in the queue: room, its key's and account's limits, its price."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from ..accounts import credits
from ..accounts.limits import Allowance, Limits, lock_account, take_submit
from ..errors import InsufficientCredits, RateLimited, UnderstudyError
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
        if not self._has_room(connection, queue_limit):
            return RateLimited(
                f"The queue is full ({queue_limit} jobs wait); try again in a few seconds.",
                code="queue_full",
                retry_after_seconds=5,
            )
        if refusal := _check_unended(connection, new, limits):
            return refusal
        allowance = None
        if limits.submits_per_minute:
            allowance = take_submit(connection, new.key_id, limits.submits_per_minute, time.time())
            if isinstance(allowance, RateLimited):
                return allowance
        price = new.price_microcredits
        if price is not None and not credits.hold(connection, new.account_id, new.id, price):
            balance = credits.read_balance(connection, new.account_id)
            return InsufficientCredits(
                f"This costs {credits.format_credits(price)} credits and the account has "
                f"{credits.format_credits(balance)}; ask the service's operator for more."
            )
        return allowance

    def _has_room(self, connection: Connection, queue_limit: int) -> bool:
        # The one thing that a change touches beside its connection: done twice, the bound is only
        # tighter, and whenever it is reached the jobs are counted. What comes back to the queue is
        # not counted until then: the bound can be passed by as many jobs as were running.
        if self._most_queued is None or self._most_queued >= queue_limit:
            self._most_queued = connection.scalar(statements.count_queued) or 0
        has_room = self._most_queued < queue_limit
        self._most_queued += has_room
        return has_room


def _check_unended(connection: Connection, new: NewJob, limits: Limits) -> RateLimited | None:
    """The refusal of a job whose key or account has as many without an end as it may have."""
    if not (limits.concurrent_jobs or limits.account_concurrent_jobs):
        return None
    values = {"of_account": new.account_id, "of_key": new.key_id}
    connection.execute(lock_account, values)
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
