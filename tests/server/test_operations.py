"""What an operator sees: the log's lines, which give nothing away, and the meters, which move."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

from picture_host import serve_picture
from service_client import SLUG, make_key, open_client, wait_for_end

ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("It did not come about in time.")


def worker_of(service) -> psutil.Process:
    """The one process of a service that draws."""

    def find() -> psutil.Process | None:
        for child in psutil.Process(service.process.pid).children():
            try:
                if "understudy.worker" in child.cmdline():
                    return child
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return None

    return wait_until(find)


def submit(http: httpx2.Client, body: dict[str, Any], **values: Any) -> str:
    answer = http.post(f"/v2/{SLUG}", json={**body, **values})
    assert answer.status_code == 200, answer.text
    return answer.json()["request_id"]


def kill_a_busy_worker(service, http: httpx2.Client, body: dict[str, Any]) -> str:
    """Let a worker die on a job: held, so that it surely has it, then killed. The job's id."""
    worker = worker_of(service)
    wait_until(lambda: http.get("/health/ready").json()["workers"][0]["state"] == "idle")
    worker.suspend()
    request_id = submit(http, body)
    wait_until(lambda: http.get("/health/ready").json()["workers"][0]["state"] == "busy")
    worker.kill()
    return request_id


# The log.

PROMPT = "a-very-private-prompt"
SECRETS = {
    "prompt": PROMPT,
    "negative prompt": "a-private-dislike",
    "query": "hush-hush",
    "userinfo": "pass-word",
    "unknown key": "us_this-key-was-never-made",
    "path": "a-private-path",
    "character": "Private-Ann",
    "file name": "private-holiday.png",
}


@contextmanager
def full_disk(service) -> Iterator[None]:
    """Let no file of the service grow: what writes is refused as on a disk that is full."""
    process = psutil.Process(service.process.pid)
    _, most = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, most))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (most, most))


def send_good_requests(http: httpx2.Client, body: dict[str, Any], picture: bytes, host: str) -> list[str]:
    """One of everything that is answered well; ids of jobs."""
    wait = wait_for_end
    form = {"prompt": PROMPT, "pose": "wave"}
    file = {"ip_image": (SECRETS["file name"], picture, "image/png")}
    assert http.post(f"/v1/{SLUG}", data=form, files=file).status_code == 200
    assert http.post(f"/v1/{SLUG}", json=body).status_code == 200
    ids = [submit(http, body), submit(http, body, ip_image=f"{host}/a-private-path/b.png?token=hush-hush")]
    with http.stream("GET", f"/v2/requests/{ids[0]}/events") as events:
        assert "COMPLETED" in "".join(events.iter_lines())
    for request_id in ids:
        assert wait(http, request_id).json()["status"] == "COMPLETED"
    output = http.get(f"/v2/requests/{ids[0]}").json()["output"]
    assert http.get(output).status_code == 200
    url = http.post("/upload-asset", json={"data_urls": [body["ip_image"]]}).json()["urls"][0]
    assert http.post(f"/v1/{SLUG}", json={**body, "ip_image": url}).status_code == 200
    saved = {"name": SECRETS["character"], "ip_image": body["ip_image"], "prompt": PROMPT}
    assert http.post("/v1/characters", json=saved).status_code in (200, 201)
    ids.append(submit(http, body, ip_image=f"character:{SECRETS['character']}"))
    assert wait(http, ids[-1]).json()["status"] == "COMPLETED"
    assert http.delete(f"/v1/characters/{SECRETS['character']}").status_code == 200
    assert http.get("/v1/requests", params={"limit": 3, "token": "hush-hush"}).status_code == 200
    assert http.post(f"/v2/{SLUG}", params={"dry_run": "true", "token": "hush-hush"}, json=body).is_success
    assert http.delete(f"/v1/requests/{ids[0]}").status_code == 200
    return ids


def send_bad_requests(service, http: httpx2.Client, body: dict[str, Any], host: str) -> None:
    """Everything that is refused, in the ways that are known to make servers talk."""
    for headers in (
        {"x-api-key": SECRETS["unknown key"]},
        {"authorization": f"Bearer {SECRETS['unknown key']}"},
    ):
        stranger = httpx2.post(f"{service.url}/v2/{SLUG}", headers=headers, json=body, trust_env=False)
        assert stranger.status_code == 401
    for values in ({"steps": 0}, {"prompt": ""}, {"ip_image": "data:image/png;base64,AAAA" + "b" * 500},
                   {"ip_image": "http://user:pass-word@10.0.0.1/a-private-path?token=hush-hush"},
                   {"ip_image": "http://127.0.0.1:9/a-private-path?token=hush-hush"},
                   {"pose": "a-private-path"}, {"unknown": PROMPT}):  # fmt: skip
        answer = http.post(f"/v2/{SLUG}", json={**body, **values})
        if answer.status_code == 200:
            wait_for_end(http, answer.json()["request_id"])
    address = f"{host.replace('//', '//user:pass-word@')}/a-private-path/a.png?token=hush-hush"
    refused = wait_for_end(http, submit(http, body, ip_image=address))
    assert (refused.status_code, refused.json()["code"]) == (422, "picture_refused")
    for content, kind in ((f'{{"prompt": "{PROMPT}', "application/json"), (PROMPT.encode(), "text/hush-hush"),
                          (b"--hush-hush\r\n\r\n", "multipart/form-data; boundary=hush-hush")):  # fmt: skip
        assert http.post(f"/v2/{SLUG}", content=content, headers={"content-type": kind}).is_client_error
    assert http.get(f"/a-private-path/{PROMPT}?token=hush-hush").status_code == 404
    assert http.get(f"/v2/requests/{PROMPT}/status?token=hush-hush").status_code == 404
    assert http.get(f"/files/{SECRETS['file name']}").status_code == 404
    assert http.patch("/v1/models", content=PROMPT.encode()).status_code == 405
    assert http.get("/v1/requests", params={"cursor": "hush-hush"}).status_code == 400
    for line in (
        b"GET /a-private-path?token=hush-hush HTTP/9.9\r\n\r\n",
        b"hush-hush\r\n\r\n",
        b"POST /v2/%s HTTP/1.1\r\nhost: hush-hush\r\ncontent-length: 900\r\n\r\n{" % SLUG.encode(),
        b"GET /health/live HTTP/1.1\r\nhost: x\r\na-private-path: \xff\xfe\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", httpx2.URL(service.url).port)) as raw:
            raw.sendall(line)
            raw.settimeout(0.2)
            with suppress(TimeoutError):
                raw.recv(1000)
    with full_disk(service):
        assert http.post(f"/v2/{SLUG}", json=body).status_code == 503


def test_the_whole_log_is_json_and_gives_nothing_away(start_service, body, picture_path):
    """Of everything that clients can send, good, bad and broken, the log has ids, times and codes."""
    body = {**body, "prompt": PROMPT, "negative_prompt": SECRETS["negative prompt"]}
    picture = picture_path.read_bytes()
    service = start_service(engine="null", fetch_allowed_hosts="127.0.0.1", log_level="debug")
    other_key = make_key(service, "other")
    counted: dict[str, int] = {}

    def count(answer: httpx2.Response) -> None:
        counted[answer.headers["x-request-id"]] = answer.status_code

    with open_client(service) as http, serve_picture(picture_path) as host:
        http.event_hooks["response"].append(count)
        ids = send_good_requests(http, body, picture, host.url)
        send_bad_requests(service, http, body, host.url)
        with open_client(service, other_key) as other:
            assert other.get("/v1/models").status_code == 200
        died = kill_a_busy_worker(service, http, body)
        assert wait_for_end(http, died).json()["metrics"]["retry_count"] == 1
        worker = worker_of(service)
        worker.suspend()
        cancelled = [submit(http, body) for _ in range(2)]
        for request_id in cancelled:
            assert http.delete(f"/v2/requests/{request_id}").status_code == 200
        worker.resume()
        wait_until(lambda: http.get("/health/ready").json()["workers"][0]["state"] == "idle")
        files = [path.name for path in (service.data_dir / "files").iterdir()]
    assert service.stop() == 0

    told = ("This first start made a key", "us_", "Understudy listens on")
    lines = [line for line in service.output if line.strip() and not line.strip().startswith(told)]
    log = "".join(lines)
    inline = base64.b64encode(picture).decode()
    pictures = {f"picture from {at}": inline[at : at + 24] for at in range(0, len(inline) - 24, 401)}
    secrets = {**SECRETS, "key": service.key, "other key": other_key, **pictures, "bytes": "PNG"}
    secrets |= {name: name for name in files}
    assert [name for name, secret in secrets.items() if secret in log] == []
    assert "us_" not in log

    events = [json.loads(line) for line in lines]
    for event in events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
        assert event["level"] in ("debug", "info", "warning", "error")
        assert event["event"]
    requests = [event for event in events if event["event"] == "request"]
    for event in requests:
        # A line of a request that made a job names the job.
        assert event.keys() - {"job"} == {
            "time",
            "level",
            "event",
            "request_id",
            "method",
            "route",
            "status",
            "seconds",
        }
        assert uuid.UUID(event["request_id"])
        assert event["seconds"] >= 0
    logged = {event["request_id"]: event["status"] for event in requests}
    assert len(logged) == len(requests), "one line a request"
    assert {200, 400, 401, 404, 405, 503} <= set(logged.values())
    ends = {event["job"]: event for event in events if event["event"] == "job_ended"}
    made = {event["job"] for event in requests if "job" in event}
    assert ends.keys() <= made
    # An answer with the picture carries its job's id, every other one that of its line.
    assert counted.keys() <= logged.keys() | ends.keys()
    assert all(logged[name] == status for name, status in counted.items() if name in logged)
    assert len(counted) > 50
    for request_id in [*ids, died]:
        assert ends[request_id]["status"] == "COMPLETED"
        assert ends[request_id]["queue_seconds"] >= 0
        assert ends[request_id]["inference_seconds"] >= 0
    assert ends[died]["attempts"] == 1
    (lost,) = [event for event in events if event["event"] == "worker_lost"]
    assert (lost["code"], lost["jobs"]) == ("worker_died", [died])
    assert [event["reason"] for event in events if event["event"] == "data_folder_failed"]


# The meters.

Samples = dict[str, float]


def read_meters(http: httpx2.Client) -> Samples:
    """Every sample by its name and labels, as Prometheus would write them."""
    samples = {}
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_every_meter_has_its_name_type_and_words(http):
    families = list(text_string_to_metric_families(http.get("/metrics").text))
    ours = {family.name: family for family in families if family.name.startswith("understudy_")}
    # The parser names a counter without its `_total`.
    assert {name: family.type for name, family in ours.items() if not name.endswith("_created")} == {
        "understudy_jobs": "gauge",
        "understudy_workers": "gauge",
        "understudy_data_dir_free_bytes": "gauge",
        "understudy_jobs_submitted": "counter",
        "understudy_jobs_ended": "counter",
        "understudy_worker_losses": "counter",
        "understudy_job_attempts_lost": "counter",
        "understudy_engine_loads": "counter",
        "understudy_webhook_attempts": "counter",
        "understudy_job_queue_seconds": "histogram",
        "understudy_job_inference_seconds": "histogram",
    }
    page = (ROOT / "docs" / "operations.md").read_text()
    exposed = {sample.name for family in families for sample in family.samples}
    exposed |= {family.name + "_total" * (family.type == "counter") for family in families}
    assert set(re.findall(r"\b(?:understudy|process)_[a-z_]+", page)) - exposed == set()
    for name, family in ours.items():
        assert family.documentation
        if not name.endswith("_created"):
            assert f"`{name}{'_total' if family.type == 'counter' else ''}" in page
    assert {"process_open_fds", "process_max_fds", "process_resident_memory_bytes"} <= {
        family.name for family in families
    }


def test_the_alert_of_failed_jobs_leaves_out_what_clients_do_wrong():
    """Who is at fault is told by the statuses of docs/errors.md: a job's end is answered with 422."""
    (left_out,) = re.findall(r'status="FAILED",code!~"(.*?)"', (ROOT / "docs" / "operations.md").read_text())
    answers, ends = (ROOT / "docs" / "errors.md").read_text().split("## Ends of a request")
    ends = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", ends.split("\n## ")[0], re.MULTILINE))
    statuses = dict(re.findall(r"^\| `(\w+)` \| ([\d, ]*422[\d, ]*) \|", answers, re.MULTILINE))
    wrong = {code for code, status in statuses.items() if status[0] == "4"}
    wrong |= {"cancelled", "no_person_found", "content_policy_violation"}
    assert {"too_large", "invalid_picture"} <= wrong
    assert {code for code in {*ends, *statuses} if re.fullmatch(left_out, code)} == wrong


def test_every_line_for_a_shell_of_the_system_names_the_whole_path():
    page = (ROOT / "docs" / "operations.md").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)", page, re.MULTILINE)
    assert set(re.findall(r"(?:sudo -u|\* \* \*) understudy (\S+)", page)) == {program}


def test_the_meters_of_the_queue_move_with_it(start_service, body):
    service = start_service(engine="null")
    with open_client(service) as http:
        wait_until(lambda: read_meters(http)['understudy_workers{state="idle"}'] == 1)
        before = read_meters(http)
        worker = worker_of(service)
        worker.suspend()
        ids = [submit(http, body) for _ in range(4)]
        wait_until(lambda: read_meters(http)['understudy_workers{state="busy"}'] == 1)
        held = read_meters(http)
        assert held['understudy_jobs{status="QUEUED"}'] + held['understudy_jobs{status="PROCESSING"}'] == 4
        assert held['understudy_workers{state="idle"}'] == 0
        time.sleep(0.3)
        worker.resume()
        for request_id in ids:
            wait_for_end(http, request_id)
        cancelled = read_meters(http)
        assert cancelled['understudy_jobs{status="QUEUED"}'] == 0
        moved = {name: value - before.get(name, 0) for name, value in cancelled.items()}
    service.stop()
    assert moved[f'understudy_jobs_submitted_total{{model="{SLUG}"}}'] == 4
    assert moved['understudy_jobs_ended_total{code="",status="COMPLETED"}'] == 4
    assert moved["understudy_job_queue_seconds_count"] == 4
    assert moved["understudy_job_queue_seconds_sum"] >= 4 * 0.3
    assert moved['understudy_job_queue_seconds_bucket{le="0.25"}'] == 0
    assert moved['understudy_job_queue_seconds_bucket{le="+Inf"}'] == 4
    assert moved["understudy_job_inference_seconds_count"] == 4
    assert moved['understudy_worker_losses_total{code="worker_died"}'] == 0
    assert cancelled["understudy_data_dir_free_bytes"] > 0


def test_the_meters_tell_of_a_worker_that_died(start_service, body):
    service = start_service(engine="null")
    with open_client(service) as http:
        died = kill_a_busy_worker(service, http, body)
        assert wait_for_end(http, died).json()["status"] == "COMPLETED"
        meters = read_meters(http)
        assert meters['understudy_worker_losses_total{code="worker_died"}'] == 1
        assert meters['understudy_job_attempts_lost_total{code="worker_died"}'] == 1
        worker = worker_of(service)
        wait_until(lambda: read_meters(http)['understudy_workers{state="idle"}'] == 1)
        worker.kill()
        wait_until(lambda: read_meters(http)['understudy_workers{state="stopped"}'] == 1)
        assert wait_for_end(http, submit(http, body)).json()["metrics"]["retry_count"] == 0
    service.stop()


def test_the_meters_tell_of_a_worker_that_cannot_start(start_service, body, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'understudy.worker' in sys.orig_argv: os._exit(7)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    service = start_service(engine="null", max_attempts=1)
    with open_client(service) as http:
        wait_until(lambda: read_meters(http)['understudy_workers{state="failed"}'] == 1)
        assert wait_for_end(http, submit(http, body)).json()["code"] == "engine_load_failed"
        meters = read_meters(http)
    service.stop()
    assert meters['understudy_worker_losses_total{code="engine_load_failed"}'] == 1
    assert meters['understudy_jobs_ended_total{code="engine_load_failed",status="FAILED"}'] == 1
