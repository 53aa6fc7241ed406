"""A running service, for commands that ask one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import NotAuthenticated

if TYPE_CHECKING:
    from ..client import Client


@contextmanager
def open_client(api_key: str | None, base_url: str | None) -> Iterator[Client]:
    """A client of a running service.

    Raises:
        NotAuthenticated: the service knows no such key; the message says how one is made.
    """
    from ..client import Client

    with Client(api_key, base_url) as client:
        try:
            yield client
        except NotAuthenticated:
            wrong = api_key or os.environ.get("UNDERSTUDY_API_KEY")
            raise NotAuthenticated(
                f"{'The service does not know this key' if wrong else 'The service wants a key'}; set "
                "UNDERSTUDY_API_KEY to one that `understudy keys create` makes in the service's data folder."
            ) from None
