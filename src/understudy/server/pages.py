"""Long lists, page by page: how many entries, and after which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, TypeVar

from fastapi import Query
from fastapi.responses import Response

from ..errors import InvalidRequest
from .bodies import JsonAnswer

T = TypeVar("T")

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


def answer_page(
    name: str,
    found: Sequence[T],
    limit: int,
    describe: Callable[[T], Any],
    tell_place: Callable[[T], Any] = attrgetter("sequence"),
) -> Response:
    """A page of a list under its name, of which one entry more than `limit` was asked for.

    `next` is the place of the page's last entry; None where the list ends with it.
    """
    page = found[:limit]
    more = len(found) > limit
    return JsonAnswer(
        {name: [describe(one) for one in page], "next": str(tell_place(page[-1])) if more else None}
    )
