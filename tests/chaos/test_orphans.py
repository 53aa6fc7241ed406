"""A process that cannot run any more does not outlive its service."""

from __future__ import annotations

import base64
import signal
from pathlib import Path

import psutil
from witness import find_children, wait_for_no_process

from running_service import RunningService
from service_client import SLUG, open_client


def test_a_worker_that_stands_still_dies_with_its_service(
    data_dir: Path, mark: str, picture_path: Path
) -> None:
    service = RunningService(data_dir, picture_path, {"engine": "null"}).start()
    with open_client(service) as http:
        body = {"prompt": "a hero", "ip_image": base64.b64encode(picture_path.read_bytes()).decode()}
        assert http.post(f"/v1/{SLUG}", json=body).status_code == 200
    (worker,) = find_children(psutil.Process(service.process.pid), "understudy.worker")
    worker.send_signal(signal.SIGSTOP)
    service.kill()
    try:
        assert wait_for_no_process(mark, 10) == []
    finally:
        if worker.is_running():
            worker.kill()
