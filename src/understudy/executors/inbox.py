"""The worker's end of the pipe: runs wait here, and a cancel reaches the run that is under way."""

from __future__ import annotations

import io
import logging
import os
import queue
import threading
import time

from .messages import Cancel, Run, decode_to_worker, read_frame

logger = logging.getLogger(__name__)

EXIT_GRACE_SECONDS = 5.0
"""How long a worker whose pipe has closed may take to reach its next step."""


class Inbox:
    """What comes in through the pipe, read in a thread so that a cancel arrives during a run."""

    def __init__(self, pipe: io.RawIOBase) -> None:
        self._pipe = pipe
        self._runs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._waiting: set[str] = set()
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next_run(self) -> Run | None:
        """Wait for the next run; None when the pipe is closed."""
        return None if self._closed.is_set() else self._runs.get()

    def is_cancelled(self, task_id: str) -> bool:
        """Whether a task of a run that is not finished was cancelled; all are when the pipe is closed."""
        return self._closed.is_set() or task_id in self._cancelled

    def forget(self, run: Run) -> None:
        """A run is finished: a late cancel of its tasks means nothing any more."""
        done = {task.id for task in run.tasks}
        with self._lock:
            self._waiting -= done
            self._cancelled -= done

    def close(self) -> None:
        """Take the pipe for closed: cancel everything and end the waiting."""
        self._closed.set()
        self._runs.put(None)

    def _read(self) -> None:
        try:
            while (frame := read_frame(self._pipe)) is not None:
                self._take(decode_to_worker(frame))
        except Exception as error:
            logger.error("the pipe broke: %s", type(error).__name__)
        self.close()
        # Whoever stands in the way of the next step is not waited for: the device must be free.
        time.sleep(EXIT_GRACE_SECONDS)
        os._exit(1)

    def _take(self, message: Run | Cancel) -> None:
        with self._lock:
            if isinstance(message, Cancel):
                self._cancelled |= self._waiting & set(message.task_ids)
                return
            self._waiting |= {task.id for task in message.tasks}
        self._runs.put(message)


def claim_pipes() -> tuple[io.FileIO, io.FileIO]:
    """Take stdin and stdout for frames; a library's stray print goes to stderr from here on."""
    commands, answers = os.dup(0), os.dup(1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return io.FileIO(commands, "r"), io.FileIO(answers, "w")
