"""The encoder: drawn pictures become files beside the next drawing, and are sent in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from .executors.messages import FromWorker

THREADS = 4
"""How many pictures are encoded at the same time; zlib leaves Python's lock to others."""

MOST_WAITING = 2 * THREADS
"""How many pictures may wait to be sent when more are about to be drawn: each is whole in memory."""

Send = Callable[[FromWorker], None]


class Encoder:
    """Makes messages in threads of its own and sends them one after another, first come, first sent."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="encoder")
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="sender")
        self._waiting: deque[Future[None]] = deque()

    def send(self, encode: Callable[[], FromWorker], send: Send) -> Future[None]:
        """Send what `encode` returns, after all that came before; the future is done when it is sent."""
        encoding = self._threads.submit(encode)
        sending = self._sender.submit(lambda: send(encoding.result()))
        self._waiting.append(sending)
        return sending

    def wait_for_room(self) -> None:
        """Wait until hardly more pictures are in memory than are being encoded."""
        while self._waiting and (len(self._waiting) > MOST_WAITING or self._waiting[0].done()):
            wait([self._waiting.popleft()])
