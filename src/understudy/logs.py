"""The log of the service and its workers: one JSON object a line, on stderr.

Lines carry ids, times and codes. No key, prompt, picture or URL of a client may get into one:
what is logged of a request is the route it took, never the address it came by.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback

import msgspec

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, event, and whatever `extra` it was logged with."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; of an exception its kind and its places in the code, not its words."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            **_describe(record),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["places"] = "".join(traceback.format_tb(record.exc_info[2]))
        return msgspec.json.encode(line, enc_hook=str).decode()


def _describe(record: logging.LogRecord) -> dict[str, str]:
    """What a record says; of a library's the first line before anything is filled in.

    What a library fills in may be a request, an address, or an exception that quotes them.
    """
    if record.name.partition(".")[0] == "understudy":
        return {"event": record.getMessage()}
    first = str(record.msg).partition("\n")[0]
    return {"event": "library_message", "logger": record.name, "message": first}


def start_logging(level: str) -> None:
    """Log everything of ours at a level, and of others what is a warning or worse, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("understudy").setLevel(level.upper())
    logging.captureWarnings(True)
    # What no line tells need not be found out for each; so the logging manual, "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    # Their own lines at this level would quote requests and addresses.
    for name in ("httpx2", "httpcore2", "asyncio", "uvicorn"):
        other = logging.getLogger(name)
        other.handlers[:] = []
        other.propagate = True
        other.setLevel(logging.WARNING)
