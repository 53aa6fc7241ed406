"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass

OK, INFO, WARN, FAIL = "ok", "info", "warn", "fail"

INSTALL = 'pip install ./models/toon ".[server]", in a clone of Understudy'
"""A folder, for the package of that name which pip finds by itself is another project's."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found: `state` is ok, info, warn or fail; `remedy` is what to do about it, or None.

    Info is what an engine lacks that the service is not to draw with. `engine` is the engine that a finding
    is of, or None.
    """

    name: str
    state: str
    detail: str
    remedy: str | None = None
    engine: str | None = None


def describe_size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.1f} GB"
