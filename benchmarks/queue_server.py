"""One of the durable queues behind a bare FastAPI route.

python queue_server.py {store,procrastinate,dbos} FOLDER DATABASE_URL
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from queues import QUEUES, DurableQueue


def build_app(queue: DurableQueue, url: str) -> FastAPI:
    """The routes: submit a job, count the jobs done, and submit many from within, without HTTP."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await queue.open()
        print(f"listens on {url}", flush=True)
        yield
        await queue.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/submit")
    async def submit(request: Request) -> dict[str, str]:
        return {"request_id": await queue.submit(await request.json()), "status": "QUEUED"}

    @app.get("/done")
    async def count_done() -> dict[str, int]:
        return {"done": await queue.count_done()}

    @app.post("/submit_many")
    async def submit_many(request: Request, jobs: int, clients: int) -> dict[str, Any]:
        return await submit_all(queue, await request.json(), jobs, clients)

    return app


async def submit_all(queue: DurableQueue, payload: dict[str, Any], jobs: int, clients: int) -> dict[str, Any]:
    """Submit so many jobs, `clients` at a time, and wait until they are done; seconds of all that."""
    latencies: list[float] = []
    left = iter(range(jobs))
    before = await queue.count_done()

    async def send() -> None:
        for _ in left:
            sent_at = time.perf_counter()
            await queue.submit(payload)
            latencies.append(time.perf_counter() - sent_at)

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(clients)))
    submitted = time.perf_counter() - started
    # Looked at, for the worker may be another process.
    while await queue.count_done() - before < jobs:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return {"latencies": latencies, "submitted": submitted, "done": time.perf_counter() - started}


def main(name: str, folder: Path, database_url: str) -> None:
    """Serve until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = build_app(QUEUES[name](folder, database_url), url)
    config = uvicorn.Config(app, log_config=None, access_log=False, backlog=2048)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
