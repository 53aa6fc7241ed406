"""Long lists, page by page: how many entries, and after which."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from ..errors import InvalidRequest

Limit = Annotated[int, Query(ge=1, le=200, description="Entries on a page.")]
Cursor = Annotated[
    str | None,
    Query(description="The `next` of the page before.", json_schema_extra={"pattern": "^[0-9]{1,18}$"}),
]


def read_cursor(cursor: str | None) -> int | None:
    """The `sequence` of the last entry seen; None for the first page.

    Raises:
        InvalidRequest: it is not one that a page gave out.
    """
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise InvalidRequest(
            "The cursor is not one that this route gave out; leave it out to begin at the newest.",
            code="invalid_parameter",
            field="cursor",
        )
    return int(cursor)
