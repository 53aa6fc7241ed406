"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found: `state` is ok, warn or fail; `remedy` is what to do about it, or None."""

    name: str
    state: str
    detail: str
    remedy: str | None = None


def describe_size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.1f} GB"
