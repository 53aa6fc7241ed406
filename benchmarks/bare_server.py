"""A bare FastAPI server with uvicorn as the service uses it: what every figure of HTTP stands beside."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/echo")
async def echo(request: Request) -> dict[str, str]:
    """Read a JSON body and answer from it; nothing is kept."""
    body = await request.json()
    return {"status": "QUEUED", "prompt": body["prompt"]}


@app.get("/status/{request_id}")
async def read_status(request_id: str) -> dict[str, Any]:
    """Answer with JSON of the size of a job's status; nothing is looked up."""
    url = f"http://127.0.0.1/v2/requests/{request_id}"
    return {
        "status": "QUEUED",
        "request_id": request_id,
        "status_url": f"{url}/status",
        "response_url": url,
        "metrics": {},
        "progress": 0.0,
        "stage": "waiting",
        "step": 0,
        "steps": 10,
        "queue_position": 1,
        "eta_seconds": None,
    }


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"listens on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, backlog=2048)
    uvicorn.Server(config).run(sockets=[listener])
