"""How long the service takes to refuse a wrong key, by how much of a right one it shares.

Whoever could tell the two apart could find a key a character at a time. Each round sends wrong keys
that share nothing, a little, nearly all, in an order by chance, one after another over one
connection; no key is sent twice.
"""

from __future__ import annotations

import random
import secrets
import statistics
import string

from load import build_request, send_load
from service import Server, run_service

KEYS = 1000
"""Wrong keys of each kind in a round."""

ALPHABET = string.ascii_letters + string.digits + "-_"

NOISE = 0.02
"""By so much the medians of kinds that nothing tells apart may differ."""


def measure(rounds: int) -> list[str]:
    """The section's lines: a row for each number of characters that are shared."""
    # As many wrong keys as these are refused for their number alone.
    with run_service("null", {"bad_keys_per_minute": 0}) as service:
        length = len(service.key)
        kinds = (0, len("us_"), 10, length // 2, length - 8)
        seconds: dict[int, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            order = list(kinds) * KEYS
            random.shuffle(order)
            requests = [ask_with(service, make_wrong_key(service.key, kind)) for kind in order]
            load = send_load(service.url, requests, 1, status=401)
            for kind, latency in zip(order, load.latencies, strict=True):
                seconds[kind].append(latency)
    medians = {kind: statistics.median(some) for kind, some in seconds.items()}
    furthest = max(abs(median / medians[0] - 1) for median in medians.values())
    return [
        f"`GET /v1/models` with wrong keys that begin as a right one of {length} characters does, {KEYS} of "
        f"each kind in each of {rounds} rounds, in an order by chance over one connection; a SHA-256 is "
        "looked up and compared in constant time.",
        "",
        "| characters shared | p50 | to none shared |",
        "| ---: | ---: | ---: |",
        *(f"| {kind} | {medians[kind] * 1e6:.0f} µs | {medians[kind] / medians[0]:.3f} |" for kind in kinds),
        "",
        f"The furthest from 1 is {furthest:.1%}: "
        + ("no more than noise." if furthest <= NOISE else f"**more than the {NOISE:.0%} of noise.**"),
    ]


def make_wrong_key(key: str, shared: int) -> str:
    """A wrong key as long as a right one whose first `shared` characters it has, and not one more."""
    rest = "".join(secrets.choice(ALPHABET) for _ in range(len(key) - shared - 1))
    return key[:shared] + random.choice(ALPHABET.replace(key[shared], "")) + rest  # noqa: S311


def ask_with(service: Server, key: str) -> bytes:
    """A request with a key."""
    return build_request("GET", f"{service.url}/v1/models", {"x-api-key": key})
