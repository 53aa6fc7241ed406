"""A service as a user starts it: `understudy serve` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

START_SECONDS = 60


class RunningService:
    """One `understudy serve` process on a data folder; it can be killed and started again.

    `url` has no path; `key` is the key that its first start made.
    """

    command = (sys.executable, "-m", "understudy.cli")

    def __init__(self, data_dir: Path, picture_path: Path, settings: Mapping[str, object]) -> None:
        self.data_dir = data_dir
        self.picture_path = picture_path
        self.key = ""
        self.url = ""
        self.output: list[str] = []
        self._settings = {f"UNDERSTUDY_{name.upper()}": str(value) for name, value in settings.items()}
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(
            [
                *(*self.command, "serve"),
                *("--host", "127.0.0.1", "--port", "0", "--data-dir", str(self.data_dir)),
            ],
            env={**os.environ, **self._settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        listening = threading.Event()
        threading.Thread(target=self._read, args=(self.process, listening), daemon=True).start()
        if not listening.wait(START_SECONDS) or not self.url:
            self.kill()
            raise RuntimeError("The service did not start:\n" + "".join(self.output))
        return self

    def stop(self) -> int:
        """Stop it as an operator does; return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """Kill it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)
            if key := re.fullmatch(r"us_\S+", line.strip()):
                self.key = key[0]
            if url := re.search(r"listens on (http://\S+:\d+)", line):
                self.url = url[1]
                listening.set()
        listening.set()
