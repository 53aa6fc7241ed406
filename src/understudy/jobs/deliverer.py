"""Tells those who asked for it of their jobs' ends: webhooks, signed, tried again until they arrive.

The signature is that of Standard Webhooks (standardwebhooks.com). A delivery is made at least once
and has one webhook id: a receiver that has seen it before knows it. Many are under way at once, few
to one target and not all of one account, and the next is always one of the account, and to the
target, that has the fewest: a target that hangs holds up itself alone, whatever waits for it. Where
it may go is the guard's to say.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.exc import DBAPIError
from standardwebhooks import Webhook

from ..accounts.webhooks import Attempt, Delivery, DueDelivery, WebhookStore
from ..guard import BadUrl, Guard, GuardError, PrivateHost, parse_url
from ..meters import Meters
from ..settings import Settings
from .job import Job
from .store import Store

log = logging.getLogger(__name__)

AT_ONCE = 256
"""Deliveries that are under way at the same time; one that hangs costs a connection and little else."""

AT_ONCE_OF_ACCOUNT = 16
"""The same of one account: until one of them is through, its others wait."""

AT_ONCE_TO_TARGET = 4
"""The same to one host and port."""

LOOKED_AT_OF_ACCOUNT = 4 * AT_ONCE_OF_ACCOUNT
"""How many due deliveries of an account are looked at: as many targets of it may hang at once."""

LOOKING_SHARE = 0.2
"""How much of the time may go into looking what is due, which takes longer the more there is."""

LOOK_SECONDS = 5.0
"""How long a delivery may be due that nobody told of: that of a job whose time was over."""

LONGEST_WAIT_SECONDS = 3 * 3600.0
"""The longest time between two attempts."""

STOP_SECONDS = 2.0
"""How long attempts that are under way may take when the service stops; the next start repeats them."""

MAX_REDIRECTS = 3

_SAME_REQUEST_THERE = (307, 308)
_GONE = 410
_SECONDS = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What came of an attempt: it is through where there is no error.

    `status` is the last one that was answered. `is_final`: no further attempt would end otherwise.
    `wait_seconds` is what the target asks for before the next.
    """

    status: int | None = None
    error: str | None = None
    is_final: bool = False
    wait_seconds: float = 0.0


class Deliverer:
    """The one loop between the deliveries and their targets."""

    def __init__(
        self,
        settings: Settings,
        webhooks: WebhookStore,
        store: Store,
        meters: Meters,
        describe_end: Callable[[Job, str], dict[str, Any]],
    ) -> None:
        """`describe_end` makes the body: of an ended job, and what the URLs in it begin with."""
        self._settings = settings
        self._webhooks = webhooks
        self._store = store
        self._meters = meters
        self._describe_end = describe_end
        # Names of one account whose servers stall must leave room for those of others.
        self._guard = Guard(allowed_hosts=settings.allowed_hosts, lookups=2 * AT_ONCE)
        self._to_target: Counter[str] = Counter()
        self._of_account: Counter[str] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deliver. This service is alone here: what an earlier run was at is due again."""
        await self._webhooks.free_leases()
        self._loop = asyncio.create_task(self._deliver_forever())

    async def stop(self) -> None:
        """Begin nothing more; what is under way and does not end soon is repeated by the next start."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=STOP_SECONDS)
        for delivering in self._under_way:
            delivering.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._guard.close()

    async def _deliver_forever(self) -> None:
        while True:
            wait_seconds = LOOK_SECONDS
            try:
                wait_seconds = await self._begin_due()
            except Exception:
                log.exception("claiming_deliveries_failed")
            await self._store.feed.wait_for_deliveries(wait_seconds)

    async def _begin_due(self) -> float:
        """Begin what is due and has room; return how long there is nothing more to begin."""
        while room := AT_ONCE - len(self._under_way):
            due_at = await self._webhooks.next_due_at()
            if due_at is None or due_at > time.time():
                return LOOK_SECONDS if due_at is None else min(due_at - time.time(), LOOK_SECONDS)
            begun = time.monotonic()
            due = await self._webhooks.list_due(
                most_of_account=LOOKED_AT_OF_ACCOUNT, most_to_target=AT_ONCE_TO_TARGET
            )
            looked_seconds = time.monotonic() - begun
            chosen = choose_deliveries(due, self._of_account, self._to_target, room)
            if chosen:
                # An attempt has its end long before.
                lease_seconds = 4 * self._settings.webhook_timeout_seconds
                for delivery in await self._webhooks.claim(chosen, lease_seconds):
                    self._begin(delivery)
            await asyncio.sleep(looked_seconds * (1 / LOOKING_SHARE - 1))
            if not chosen:
                # All that is due waits for what is under way, whose end wakes this loop.
                break
        return LOOK_SECONDS

    def _begin(self, delivery: Delivery) -> None:
        self._to_target[delivery.target] += 1
        self._of_account[delivery.account_id] += 1

        def end(delivering: asyncio.Task[None]) -> None:
            self._under_way.discard(delivering)
            self._to_target[delivery.target] -= 1
            self._of_account[delivery.account_id] -= 1
            self._to_target += Counter()
            self._of_account += Counter()
            self._store.feed.wake_deliverer()

        delivering = asyncio.create_task(self._deliver(delivery))
        self._under_way.add(delivering)
        delivering.add_done_callback(end)

    async def _deliver(self, delivery: Delivery) -> None:
        """Attempt a delivery once, and record what came of it."""
        at, begun = time.time(), time.monotonic()
        try:
            outcome = await self._attempt_safely(delivery)
            attempt = Attempt(
                at=at,
                status=outcome.status,
                error=outcome.error,
                seconds=round(time.monotonic() - begun, 3),
            )
            delivered, next_attempt_at = outcome.error is None, None
            if not delivered and not outcome.is_final:
                wait_seconds = choose_wait(delivery.tries, self._settings.webhook_retry_seconds)
                next_attempt_at = choose_next_attempt(
                    time.time(), wait_seconds, outcome.wait_seconds, delivery.give_up_at
                )
            await self._webhooks.record(
                delivery, attempt, delivered=delivered, next_attempt_at=next_attempt_at
            )
        except Exception:
            # Its lease runs out, and it is tried again.
            log.exception("delivery_not_recorded", extra={"delivery": delivery.id, "job": delivery.job_id})
            return
        state = "delivered" if delivered else "failed" if next_attempt_at is None else "pending"
        self._meters.webhook_attempts.labels(state).inc()
        told = {"delivery": delivery.id, "job": delivery.job_id, "state": state, "status": outcome.status}
        log.info("webhook_attempted", extra=told)

    async def _attempt_safely(self, delivery: Delivery) -> _Outcome:
        """What came of an attempt, whatever it ran into: one that is never recorded has no end."""
        try:
            return await self._attempt(delivery)
        except DBAPIError:
            raise
        except Exception:
            log.exception("delivery_failed", extra={"delivery": delivery.id, "job": delivery.job_id})
            return _Outcome(error="The service failed on it; its log says more.")

    async def _attempt(self, delivery: Delivery) -> _Outcome:
        job = await self._store.get(delivery.job_id)
        if job is None:
            return _Outcome(error="The request was deleted.", is_final=True)
        body = msgspec.json.encode(self._describe_end(job, delivery.base))
        headers = await self._sign(delivery, body.decode())
        limit_seconds = self._settings.webhook_timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds):
                return await self._post(delivery.url, headers, body)
        except TimeoutError:
            return _Outcome(error=f"It did not answer within {limit_seconds:g} seconds.")

    async def _sign(self, delivery: Delivery, body: str) -> dict[str, str]:
        """The headers of an attempt; while a secret is being replaced both sign."""
        now = datetime.now(UTC)
        secret = await self._webhooks.read_secret(delivery.account_id)
        signing = [Webhook(one) for one in secret.list_signing(now.timestamp())]
        return {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(one.sign(delivery.id, now, body) for one in signing),
        }

    async def _post(self, text: str, headers: Mapping[str, str], body: bytes) -> _Outcome:
        """Send it, on to where a redirect wants the very same request; what is answered is not read."""
        try:
            url = parse_url(text)
        except BadUrl as error:
            return _Outcome(error=_explain(error), is_final=True)
        status = None
        for _ in range(1 + MAX_REDIRECTS):
            try:
                async with self._guard.send("POST", url, headers, body) as response:
                    status = response.status
                    answer = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                    if status not in _SAME_REQUEST_THERE or b"location" not in answer:
                        return _judge(url.raw_host.decode("ascii"), status, answer)
                    url = parse_url(answer[b"location"], base=url)
            except GuardError as error:
                # Where a redirect leads is the target's to mend.
                return _Outcome(status=status, error=_explain(error))
        return _Outcome(status=status, error=f"It is behind more than {MAX_REDIRECTS} redirects.")


def choose_deliveries(
    due: Sequence[DueDelivery], of_account: Mapping[str, int], to_target: Mapping[str, int], room: int
) -> list[int]:
    """The sequences of at most `room` due deliveries to begin, within every limit.

    Each is of the account that has the fewest under way, and of its own to the target that has. What is
    under way is counted in `of_account` and `to_target`.
    """
    accounts, targets = Counter(of_account), Counter(to_target)
    waiting: dict[str, list[DueDelivery]] = {}
    for delivery in due:
        waiting.setdefault(delivery.account_id, []).append(delivery)
    chosen: list[int] = []
    while waiting and len(chosen) < room:
        account_id = min(waiting, key=accounts.__getitem__)
        of_it = waiting[account_id]
        next_one = min(of_it, key=lambda delivery: targets[delivery.target])
        if accounts[account_id] >= AT_ONCE_OF_ACCOUNT or targets[next_one.target] >= AT_ONCE_TO_TARGET:
            del waiting[account_id]
            continue
        chosen.append(next_one.sequence)
        accounts[account_id] += 1
        targets[next_one.target] += 1
        of_it.remove(next_one)
        if not of_it:
            del waiting[account_id]
    return chosen


def choose_wait(tries: int, first_seconds: float) -> float:
    """Seconds until the next attempt: twice as many after each, and up to half more or less by chance.

    Chance keeps those apart that failed together (Brooker, "Exponential Backoff And Jitter", 2015).
    """
    doubled = first_seconds * 2.0 ** min(tries, 30)
    return min(doubled, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.5)  # noqa: S311  guards nothing


def choose_next_attempt(
    now: float, wait_seconds: float, asked_seconds: float, give_up_at: float
) -> float | None:
    """When to attempt a delivery next, the last time when it is to be given up; None when that is over.

    What the target asks for is kept to, or there is no further attempt.
    """
    if now >= give_up_at or now + asked_seconds > give_up_at:
        return None
    return min(now + max(wait_seconds, asked_seconds), give_up_at)


def _judge(host: str, status: int, headers: Mapping[bytes, str]) -> _Outcome:
    """What an answer means; only one of success (2xx) is taken for it."""
    if 200 <= status < 300:
        return _Outcome(status=status)
    asked = headers.get(b"retry-after", "")
    return _Outcome(
        status=status,
        error=f"{host} answers HTTP {status}.",
        is_final=status == _GONE,
        wait_seconds=min(float(asked), LONGEST_WAIT_SECONDS) if _SECONDS.fullmatch(asked) else 0.0,
    )


def _explain(error: GuardError) -> str:
    words = f"It was not sent: {error.reason}."
    if isinstance(error, PrivateHost):
        words += " The operator can name it in UNDERSTUDY_FETCH_ALLOWED_HOSTS."
    return words
