"""A host on the loopback that serves pictures as the internet would: at once, slowly, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class PictureHost:
    """Serves one picture under every path but `/missing...` (404) and `/slow...` (not before `close`)."""

    def __init__(self, picture: bytes) -> None:
        self._released = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                if self.path.startswith("/missing"):
                    self.send_error(404)
                    return
                if self.path.startswith("/slow"):
                    host._released.wait()
                    return
                self.send_response(200)
                self.send_header("content-type", "image/png")
                self.send_header("content-length", str(len(picture)))
                self.end_headers()
                self.wfile.write(picture)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def hang_up(self) -> None:
        """Let whoever waits for a slow picture go without one."""
        self._released.set()

    def close(self) -> None:
        self.hang_up()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serve_picture(path: Path) -> Iterator[PictureHost]:
    """A picture host for the time of the block."""
    host = PictureHost(path.read_bytes())
    try:
        yield host
    finally:
        host.close()
