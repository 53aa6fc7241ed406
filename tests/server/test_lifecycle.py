"""A job's life through a service's own: cancel, kill, restart, stop, expiry, deletion."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from service_client import SLUG, make_key, open_client, wait_for_end

EVERY_PART = ("sdxl_model", "sdxl_controlnet", "sdxl_ip_adapter", "sdxl_vae")


def submit(http, body, **values) -> str:
    answer = http.post(f"/v2/{SLUG}", json={**body, **values})
    assert answer.status_code == 200, answer.text
    return answer.json()["request_id"]


def wait_until(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("It did not come about in time.")


def wait_for_status(http, request_id, status, **fields):
    def reached():
        body = http.get(f"/v2/requests/{request_id}/status").json()
        return body["status"] == status and all(body[name] >= value for name, value in fields.items())

    wait_until(reached)


def workers_of(service) -> list[psutil.Process]:
    workers = []
    for child in psutil.Process(service.process.pid).children():
        # A child that ends just now is no worker any more.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "understudy.worker" in child.cmdline():
                workers.append(child)
    return workers


def files_of(service) -> set[str]:
    return {path.name for path in (service.data_dir / "files").iterdir()}


def test_cancel_ends_a_job_between_two_steps(toon_service, body):
    with open_client(toon_service) as http:
        running = submit(http, body, steps=70)
        waiting = submit(http, body, steps=2)
        wait_for_status(http, running, "PROCESSING", step=1)
        cancelled = http.delete(f"/v2/requests/{running}")
        assert cancelled.status_code == 200
        assert (cancelled.json()["status"], cancelled.json()["code"]) == ("FAILED", "cancelled")
        again = http.put(f"/v2/requests/{running}/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "already_ended")
        assert wait_for_end(http, waiting).json()["status"] == "COMPLETED"
        late = http.get(f"/v2/requests/{running}")
        assert (late.status_code, late.json()["code"]) == (422, "cancelled")
        assert "cost" not in late.json()["metrics"]


def test_a_waiting_job_is_cancelled_by_put(toon_service, body):
    with open_client(toon_service) as http:
        running = submit(http, body, steps=70)
        waiting = [submit(http, body, steps=70) for _ in range(6)]
        position = http.get(f"/v2/requests/{waiting[-1]}/status").json()["queue_position"]
        assert position >= 2
        for request_id in waiting:
            assert http.put(f"/v2/requests/{request_id}/cancel").status_code == 200
        assert http.delete(f"/v2/requests/{running}").status_code == 200
        assert wait_for_end(http, waiting[0]).json()["code"] == "cancelled"


def test_a_killed_worker_costs_an_attempt_and_no_job(toon_service, body):
    with open_client(toon_service) as http:
        request_id = submit(http, body, steps=70)
        wait_for_status(http, request_id, "PROCESSING", step=1)
        workers_of(toon_service)[0].kill()
        assert wait_for_end(http, request_id).json()["metrics"]["retry_count"] == 1


@pytest.mark.slow
def test_a_poison_job_ends_failed(toon_service, body):
    with open_client(toon_service) as http:
        request_id = submit(http, body, steps=70)
        killed = set()

        def kill_or_ended():
            for worker in workers_of(toon_service):
                status = http.get(f"/v2/requests/{request_id}/status").json()
                if status["status"] == "PROCESSING" and worker.pid not in killed:
                    killed.add(worker.pid)
                    worker.kill()
            return http.get(f"/v2/requests/{request_id}/status").status_code == 422

        wait_until(kill_or_ended, 120)
        failed = http.get(f"/v2/requests/{request_id}").json()
        assert failed["code"] == "worker_died"
        assert failed["metrics"]["retry_count"] == 2
        assert len(killed) == 3
        assert wait_for_end(http, submit(http, body, steps=1)).json()["status"] == "COMPLETED"


@pytest.mark.slow
def test_a_killed_service_loses_nothing_and_leaks_nothing(start_service, body):
    service = start_service(engine="toon")
    with open_client(service) as http:
        running = submit(http, body, steps=70)
        waiting = [submit(http, body, steps=1) for _ in range(5)]
        wait_for_status(http, running, "PROCESSING", step=1)
    children = psutil.Process(service.process.pid).children(recursive=True)
    (service.data_dir / "files" / f"{'0' * 32}.png").write_bytes(b"bytes that no row knows of")
    service.kill()
    psutil.wait_procs(children, timeout=20)
    assert not [child for child in children if child.is_running()], "a child outlived its service"
    service.start()
    with open_client(service) as http:
        ends = [wait_for_end(http, request_id).json() for request_id in (running, *waiting)]
    assert [end["status"] for end in ends] == ["COMPLETED"] * 6
    assert [end["metrics"]["retry_count"] for end in ends] == [0] * 6, "a killed service takes no attempt"
    assert f"{'0' * 32}.png" not in files_of(service)
    service.stop()


@pytest.mark.slow
def test_a_stop_finishes_what_runs_and_keeps_what_waits(start_service, body):
    service = start_service(engine="toon", shutdown_grace_seconds=30)
    with open_client(service) as http:
        running = submit(http, body, steps=30)
        waiting = submit(http, body, steps=1)
        wait_for_status(http, running, "PROCESSING", step=1)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0
    service.start()
    with open_client(service) as http:
        assert http.get(f"/v2/requests/{running}").json()["status"] == "COMPLETED"
        assert wait_for_end(http, waiting).json()["metrics"]["retry_count"] == 0
    assert service.stop() == 0


def test_a_stop_gives_back_what_does_not_finish_in_time(start_service, body):
    service = start_service(engine="toon", shutdown_grace_seconds=0.2)
    with open_client(service) as http:
        running = submit(http, body, steps=70, num_images=8)
        wait_for_status(http, running, "PROCESSING", step=1)
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 20
    service.start()
    with open_client(service) as http:
        status = http.get(f"/v2/requests/{running}/status").json()
        assert status["status"] in ("QUEUED", "PROCESSING")
        assert http.delete(f"/v2/requests/{running}").json()["metrics"]["retry_count"] == 0
    service.stop()


def test_a_stop_lets_waiting_connections_go(start_service, body):
    service = start_service(engine="toon", shutdown_grace_seconds=1)
    with open_client(service) as http:
        request_id = submit(http, body, steps=70, num_images=8)
        wait_for_status(http, request_id, "PROCESSING", step=1)
        with http.stream("GET", f"/v2/requests/{request_id}/events") as events:
            lines = events.iter_lines()
            next(lines)
            begun = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            for _ in lines:
                pass
        assert service.process.wait(timeout=60) == 0
        assert time.monotonic() - begun < 20


def test_a_second_service_on_the_same_data_folder_is_refused(service):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "understudy.cli", "serve", "--port", "0"),
            *("--data-dir", str(service.data_dir), "--engine", "null"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Another service uses the data folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_expire_and_the_history_stays(start_service, body):
    service = start_service(engine="null", result_ttl_seconds=1)
    with open_client(service) as http:
        request_id = submit(http, body)
        assert wait_for_end(http, request_id).status_code == 200
        wait_until(lambda: http.get(f"/v2/requests/{request_id}/status").status_code == 404)
        for route in ("/v2/requests/{}", "/v1/requests/{}", "/v2/requests/{}/events"):
            gone = http.get(route.format(request_id))
            assert gone.status_code == 404
            assert gone.json()["error"] == f"Request {request_id} not found"
        assert http.delete(f"/v2/requests/{request_id}").status_code == 404
        entry = http.get("/v1/requests").json()["requests"][0]
        assert entry["request_id"] == request_id
        assert http.get(entry["images"][0]["url"]).status_code == 200
    service.stop()


def test_files_and_history_are_swept_when_their_time_is_over(start_service, body):
    service = start_service(
        engine="null", file_ttl_seconds=600, history_ttl_seconds=1, sweep_interval_seconds=0.2
    )
    with open_client(service) as http:
        request_id = submit(http, body)
        assert wait_for_end(http, request_id).status_code == 200
        wait_until(lambda: http.get("/v1/requests").json()["requests"] == [])
        wait_until(lambda: files_of(service) == set())
    service.stop()


def test_inputs_are_swept_when_the_job_has_ended(start_service, body):
    service = start_service(engine="null", sweep_interval_seconds=0.2)
    with open_client(service) as http:
        request_id = submit(http, body)
        wait_for_end(http, request_id)
        output = http.get(f"/v2/requests/{request_id}").json()["images"][0]["file_name"]
        wait_until(lambda: files_of(service) == {output})
    service.stop()


def test_a_deleted_request_takes_its_files_along(http, body):
    request_id = submit(http, body)
    wait_for_end(http, request_id)
    result = http.get(f"/v2/requests/{request_id}").json()
    assert http.delete(f"/v1/requests/{request_id}").json() == {"request_id": request_id, "deleted": True}
    assert http.get(f"/v2/requests/{request_id}").status_code == 404
    assert http.get(result["output"]).status_code == 404
    assert http.delete(f"/v1/requests/{request_id}").status_code == 404


def test_a_deleted_picture_is_not_revived_by_who_knows_its_address(http, stranger, body):
    request_id = submit(http, body)
    assert wait_for_end(http, request_id).status_code == 200
    url = http.get(f"/v2/requests/{request_id}").json()["output"]
    sent = {**body, "ip_image": url}
    assert stranger.post(f"/v2/{SLUG}?dry_run=true", json=sent).status_code == 200
    http.delete(f"/v1/requests/{request_id}")
    answer = stranger.post(f"/v2/{SLUG}", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_picture")
    assert http.get(url).status_code == 404


def test_history_is_paged(start_service, service, body):
    with open_client(service, make_key(service, "historian")) as http:
        ids = [submit(http, body) for _ in range(5)]
        for request_id in ids:
            wait_for_end(http, request_id)
        first = http.get("/v1/requests", params={"limit": 3}).json()
        rest = http.get("/v1/requests", params={"limit": 3, "cursor": first["next"]}).json()
        assert [entry["request_id"] for entry in first["requests"] + rest["requests"]] == ids[::-1]
        assert rest["next"] is None
        assert http.get("/v1/requests", params={"status": "FAILED"}).json()["requests"] == []
        for params in ({"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"status": "DONE"}):
            bad = http.get("/v1/requests", params=params)
            assert (bad.status_code, bad.json()["code"]) == (400, "invalid_parameter")
            assert bad.json()["field"] in params


def test_a_revoked_key_stops_within_a_second(service):
    key = make_key(service, "short-lived")
    with open_client(service, key) as http:
        assert http.get("/v1/models").status_code == 200
        subprocess.run(
            [
                *(sys.executable, "-m", "understudy.cli", "keys", "revoke", key[:10]),
                *("--data-dir", str(service.data_dir)),
            ],
            check=True,
            capture_output=True,
        )
        time.sleep(1)
        assert http.get("/v1/models").status_code == 401


def test_no_key_is_kept_in_the_data_folder(service):
    for path in service.data_dir.rglob("*"):
        if path.is_file():
            assert service.key.encode() not in path.read_bytes()


@pytest.mark.slow
def test_one_client_s_crowd_does_not_hold_up_another(start_service, body):
    service = start_service(engine="toon")
    with open_client(service) as crowd, open_client(service, make_key(service, "lone")) as lone:
        many = [submit(crowd, body, steps=4) for _ in range(30)]
        wait_for_status(crowd, many[0], "COMPLETED")
        request_id = submit(lone, body, steps=4)
        wait_for_end(lone, request_id)
        ended = [crowd.get(f"/v2/requests/{one}/status").json()["status"] for one in many]
        assert ended.count("COMPLETED") < 20
    service.kill()


def test_the_server_is_light_and_imports_no_torch(service):
    process = psutil.Process(service.process.pid)
    assert process.memory_info().rss < 200e6
    assert not [one.path for one in process.memory_maps() if "torch" in one.path]


def test_health_and_meters(http):
    assert http.get("/health/live").json() == {"status": "live"}
    ready = http.get("/health/ready").json()
    assert ready["status"] == "ready"
    assert set(ready["checks"].values()) == {"ok"}
    meters = http.get("/metrics").text
    for name in (
        'understudy_jobs{status="QUEUED"}',
        "understudy_jobs_submitted_total",
        'understudy_jobs_ended_total{code="",status="COMPLETED"}',
        "understudy_job_inference_seconds_count",
        'understudy_workers{state="idle"}',
    ):
        assert name in meters


@pytest.mark.slow
def test_an_engine_that_cannot_load_is_told(start_service, body, tmp_path):
    service = start_service(engine="sdxl", **dict.fromkeys(EVERY_PART, tmp_path))
    with open_client(service) as http:
        failed = wait_for_end(http, submit(http, body))
        assert (failed.status_code, failed.json()["code"]) == (422, "engine_load_failed")
        ready = http.get("/health/ready")
        assert ready.status_code == 503
        assert "UNDERSTUDY_SDXL_" in ready.json()["checks"]["executor"]
    service.stop()


@pytest.mark.slow
def test_an_idle_worker_is_unloaded_and_the_cold_start_is_told(start_service, body):
    service = start_service(engine="toon", worker_idle_seconds=0.5)
    with open_client(service) as http:
        for _ in range(2):
            request_id = submit(http, body, steps=1)
            stages = set()

            def ended(request_id=request_id, stages=stages):
                status = http.get(f"/v2/requests/{request_id}/status").json()
                stages.add(status["stage"])
                return status["status"] == "COMPLETED"

            wait_until(ended)
            assert "loading" in stages
            wait_until(lambda: workers_of(service) == [])
    service.stop()


def test_no_log_carries_a_prompt_a_key_or_an_address(start_service, body):
    service = start_service(engine="toon", fetch_allowed_hosts="127.0.0.1")
    with open_client(service) as http:
        secret = "http://127.0.0.1:9/a.png?token=hush-hush"
        wait_for_end(http, submit(http, body, prompt="a-very-private-prompt", ip_image=secret))
        wait_for_end(http, submit(http, body, prompt="a-very-private-prompt", steps=1))
        http.post(f"/v2/{SLUG}", json={**body, "steps": 0})
    service.stop()
    log = "".join(line for line in service.output if not line.strip().startswith("us_"))
    events = [json.loads(line) for line in service.output if line.startswith("{")]
    ends = [event for event in events if event["event"] == "job_ended"]
    assert [event["status"] for event in ends] == ["FAILED", "COMPLETED"]
    requests = [event for event in events if event["event"] == "request"]
    assert {"/v2/{slug}", "/v2/requests/{request_id}/status"} <= {event["route"] for event in requests}
    assert {200, 400, 422} <= {event["status"] for event in requests}
    assert all(event["seconds"] >= 0 and event["request_id"] for event in requests)
    for word in ("a-very-private-prompt", "hush-hush", service.key, body["ip_image"][30:90]):
        assert word not in log


@pytest.mark.parametrize("name", ["understudy.sqlite3", "service.lock"])
def test_the_data_folder_is_its_owner_s_alone(service, name):
    assert os.stat(service.data_dir / name).st_mode & 0o077 == 0


def test_a_public_url_begins_every_address(start_service, body):
    service = start_service(engine="null", public_url="https://pictures.example.org/", credits="off")
    with open_client(service) as http:
        answer = http.post(f"/v2/{SLUG}", json=body).json()
        assert answer["status_url"].startswith("https://pictures.example.org/v2/requests/")
        wait_for_end(http, answer["request_id"])
        result = http.get(f"/v2/requests/{answer['request_id']}")
        assert json.loads(result.text)["output"].startswith("https://pictures.example.org/files/")
    service.stop()


def test_files_are_ours_under_a_public_url_with_a_path(start_service, body):
    service = start_service(
        engine="null", public_url="https://Pictures.example.org/understudy", credits="off"
    )
    with open_client(service) as http:
        url = http.post("/upload-asset", json={"data_urls": [body["ip_image"]]}).json()["urls"][0]
        assert url.startswith("https://Pictures.example.org/understudy/files/")
        assert http.post(f"/v1/{SLUG}", json={**body, "ip_image": url}).status_code == 200
    service.stop()


def test_a_job_outlives_the_character_it_was_given(start_service, body):
    service = start_service(engine="toon", sweep_interval_seconds=0.1)
    with open_client(service) as http:
        saved = http.post("/v1/characters", json={"name": "Ann", "ip_image": body["ip_image"]}).json()
        running = submit(http, body, steps=30)
        waiting = submit(http, body, ip_image="character:Ann", steps=1)
        assert http.delete("/v1/characters/Ann").status_code == 200
        assert http.get(saved["url"]).status_code == 404
        assert wait_for_end(http, running).status_code == 200
        assert wait_for_end(http, waiting).status_code == 200
    service.stop()
