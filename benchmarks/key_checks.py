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


def measure(rounds: int) -> list[str]:
    """The section's lines: a row for each number of characters that are shared."""
    # Else most of them would be refused for their number alone.
    with run_service("null", {"bad_keys_per_minute": 0}) as service:
        length = len(service.key)
        # The second of those that share nothing tells what chance alone does.
        kinds = {"0": 0, "0, once more": 0}
        kinds |= {str(shared): shared for shared in (len("us_"), 10, length // 2, length - 8)}
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            order = list(kinds) * KEYS
            random.shuffle(order)
            requests = [ask_with(service, make_wrong_key(service.key, kinds[kind])) for kind in order]
            load = send_load(service.url, requests, 1, status=401)
            for kind, latency in zip(order, load.latencies, strict=True):
                seconds[kind].append(latency)
    medians = {kind: statistics.median(some) for kind, some in seconds.items()}
    return [
        f"`GET /v1/models` with wrong keys that begin as a right one of {length} characters does, {KEYS} of "
        f"each kind in each of {rounds} rounds, in an order by chance over one connection.",
        "",
        "| characters shared | p50 | to the first row |",
        "| ---: | ---: | ---: |",
        *(f"| {kind} | {one * 1e6:.0f} µs | {one / medians['0']:.3f} |" for kind, one in medians.items()),
    ]


def make_wrong_key(key: str, shared: int) -> str:
    """A wrong key as long as a right one whose first `shared` characters it has, and not one more."""
    rest = "".join(secrets.choice(ALPHABET) for _ in range(len(key) - shared - 1))
    return key[:shared] + random.choice(ALPHABET.replace(key[shared], "")) + rest  # noqa: S311


def ask_with(service: Server, key: str) -> bytes:
    """A request with a key."""
    return build_request("GET", f"{service.url}/v1/models", {"x-api-key": key})
