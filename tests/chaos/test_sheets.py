"""A sheet whose worker, or whole service, is killed in its middle: one set of pictures, billed once."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from witness import find_children, find_faults, open_database

from running_service import RunningService
from service_client import SLUG, open_client, wait_for_end

SETTINGS = {"engine": "null", "credits": "on", "sweep_interval_seconds": 0.2}

PICTURES = 12


def read_drawn(data_dir: Path, job_id: str) -> list[str]:
    """The names of a job's pictures that its row tells of, None for those it does not."""
    with closing(open_database(data_dir)) as database:
        (images,) = database.execute("SELECT images FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return [image.get("file_name") for image in json.loads(images or "[]")]


def wait_for_pictures(data_dir: Path, job_id: str, count: int) -> list[str]:
    """The same when there are so many, but not all yet."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        drawn = read_drawn(data_dir, job_id)
        if sum(name is not None for name in drawn) >= count:
            assert None in drawn, "the sheet was drawn before anything could be killed"
            return drawn
        time.sleep(0.005)
    raise AssertionError("no picture came")


def kill_worker(service: RunningService) -> None:
    (worker,) = find_children(psutil.Process(service.process.pid), "understudy.worker")
    worker.kill()


def kill_service(service: RunningService) -> None:
    service.kill()
    service.start()


@pytest.mark.parametrize(("kill", "retries"), [(kill_worker, 1), (kill_service, 0)])
def test_what_is_killed_in_the_middle_of_a_sheet(
    start_service: Callable[..., RunningService], picture_path: Path, kill, retries: int
) -> None:
    service = start_service(**SETTINGS)
    picture = base64.b64encode(picture_path.read_bytes()).decode()
    sheet = {
        "prompt": "a hero",
        "ip_image": picture,
        "poses": ["wave"] * PICTURES,
        "width": 2048,
        "height": 2048,
    }
    with open_client(service) as http:
        account = f"/v1/admin/accounts/{http.get('/v1/admin/accounts').json()['accounts'][0]['id']}"
        assert http.post(f"{account}/credits", json={"credits": 1}).status_code == 200
        send = {"json": sheet, "headers": {"idempotency-key": "once"}}
        job_id = http.post(f"/v2/{SLUG}", **send).json()["request_id"]
        before = wait_for_pictures(service.data_dir, job_id, 2)
        kill(service)
    with open_client(service) as http:
        assert http.post(f"/v2/{SLUG}", **send).json()["request_id"] == job_id
        wait_for_end(http, job_id)
        result = http.get(f"/v2/requests/{job_id}").json()
        assert (result["status"], result["metrics"]["retry_count"]) == ("COMPLETED", retries)
        names = [image["file_name"] for image in result["images"]]
        assert len(set(names)) == PICTURES
        assert [name for name, drawn in zip(names, before, strict=True) if drawn] == [*filter(None, before)]
        for image in result["images"]:
            assert len(http.get(image["url"]).content) == image["file_size"]
        # The price of 2048 x 2048 pixels is four times the usual one, which is 0.002 credits.
        cost = PICTURES * 4 * 0.002
        assert result["metrics"]["cost"] == pytest.approx(cost)
        assert result["metrics"]["remaining_credits"] == pytest.approx(1 - cost)
        entries = http.get("/v1/credits").json()["entries"]
        assert Counter(entry["kind"] for entry in entries) == {
            "grant": 1,
            "hold": 1,
            "release": 1,
            "charge": 1,
        }
    assert find_faults(service.data_dir) == []
    files = {path.name for path in (service.data_dir / "files").iterdir()}
    assert files == set(names), "only the pictures are left, each once"
