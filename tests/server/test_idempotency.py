"""The same request under the same Idempotency-Key: carried out once, answered alike."""

from __future__ import annotations

import base64
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from service_client import SLUG, open_client


@pytest.fixture
def once():
    """Headers with an idempotency key that nobody used yet."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def count_jobs(http):
    return len(http.get("/v1/requests").json()["requests"])


def test_a_submit_that_is_sent_again_is_one_job_with_one_bill(open_account, body, once):
    http = open_account(credits=1)
    first, second = (http.post(f"/v2/{SLUG}", json=body, headers=once) for _ in range(2))
    assert first.json() == second.json()
    assert first.status_code == second.status_code == 200
    assert count_jobs(http) == 1
    kinds = [entry["kind"] for entry in http.get("/v1/credits").json()["entries"]]
    assert kinds.count("hold") == 1


def test_the_synchronous_route_gives_the_same_picture_again(open_account, body, once):
    http = open_account(credits=0.002)
    first, second = (http.post(f"/v1/{SLUG}", json={**body, "seed": -1}, headers=once) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    told = ("x-request-id", "x-seed-value", "x-cost", "x-remaining-credits")
    assert [first.headers[name] for name in told] == [second.headers[name] for name in told]


def test_the_same_in_other_words_is_the_same(open_account, body, once):
    """Parsed parameters count, and a picture's digest; not how they were written."""
    http = open_account(credits=1)
    first = http.post(f"/v2/{SLUG}", json=body, headers=once).json()
    picture = body["ip_image"].partition(",")[2]
    explicit = {**body, "ip_image": picture, "steps": 10, "input_image": None, "no_such": 1}
    assert http.post(f"/v2/{SLUG}", json=explicit, headers=once).json() == first
    form = {name: str(value) for name, value in body.items() if name != "ip_image"}
    files = {"ip_image": ("x.png", base64.b64decode(picture), "image/png")}
    assert http.post(f"/v2/{SLUG}", data=form, files=files, headers=once).json() == first


def test_another_request_under_the_same_key_is_a_conflict(open_account, body, once):
    http = open_account(credits=1)
    assert http.post(f"/v2/{SLUG}", json=body, headers=once).status_code == 200
    others = [
        (f"/v2/{SLUG}", {**body, "steps": 11}),
        (f"/v2/{SLUG}", {**body, "ip_image": "https://example.com/other.png"}),
        ("/v2/understudy-null", body),
        (f"/v1/{SLUG}", body),
    ]
    for path, other in others:
        answer = http.post(path, json=other, headers=once)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert count_jobs(http) == 1


def test_another_accounts_key_is_another_key(open_account, body, once):
    first, second = (
        open_account(credits=1).post(f"/v2/{SLUG}", json=body, headers=once).json() for _ in range(2)
    )
    assert first["request_id"] != second["request_id"]


def test_sent_many_times_at_once_it_is_one_job(open_account, body, once):
    http = open_account(credits=1)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: http.post(f"/v2/{SLUG}", json=body, headers=once), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["request_id"] for answer in answers}) == 1
    assert count_jobs(http) == 1


def test_a_refusal_is_not_kept(open_account, admin, body, once):
    http = open_account()
    assert http.post(f"/v2/{SLUG}", json=body, headers=once).status_code == 406
    assert admin.post(f"{http.account}/credits", json={"credits": 1}).status_code == 200
    assert http.post(f"/v2/{SLUG}", json=body, headers=once).status_code == 200
    limited = open_account(credits=1, concurrent_jobs=1, submits_per_minute=1)
    assert limited.post(f"/v1/{SLUG}", json=body).status_code == 200
    for _ in range(2):
        assert limited.post(f"/v2/{SLUG}", json=body, headers=once).status_code == 429


def test_a_request_that_was_deleted_is_not_made_anew(open_account, body, once):
    http = open_account(credits=1)
    first = http.post(f"/v1/{SLUG}", json=body, headers=once)
    assert http.delete(f"/v1/requests/{first.headers['x-request-id']}").status_code == 200
    answer = http.post(f"/v1/{SLUG}", json=body, headers=once)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert count_jobs(http) == 0


def test_an_answer_is_kept_for_a_day_and_no_longer(open_account, billing_service, body, once):
    http = open_account(credits=1)
    first = http.post(f"/v2/{SLUG}", json=body, headers=once).json()
    with closing(sqlite3.connect(billing_service.data_dir / "understudy.sqlite3", timeout=60)) as database:
        mine = (once["Idempotency-Key"],)
        (until,) = database.execute("SELECT expires_at FROM idempotency_keys WHERE key = ?", mine).fetchone()
        assert 86_300 < until - time.time() <= 86_400
        # A day later, before a sweep has been by.
        database.execute("UPDATE idempotency_keys SET expires_at = 1.0 WHERE key = ?", mine)
        database.commit()
    other = {**body, "steps": 11}
    second, again = (http.post(f"/v2/{SLUG}", json=other, headers=once) for _ in range(2))
    assert (second.status_code, again.json()) == (200, second.json())
    assert second.json()["request_id"] != first["request_id"]
    assert count_jobs(http) == 2


def test_a_dry_run_uses_no_key_up(open_account, body, once):
    http = open_account(credits=1)
    assert http.post(f"/v2/{SLUG}?dry_run=true", json={**body, "steps": 3}, headers=once).status_code == 200
    assert http.post(f"/v2/{SLUG}", json=body, headers=once).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel".encode()])
def test_what_is_no_key_is_refused(open_account, body, key):
    answer = open_account(credits=1).post(f"/v2/{SLUG}", json=body, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


def test_every_post_that_makes_something_makes_it_once(open_account, admin, body):
    http = open_account(credits=1)
    posts = [
        (http, "/upload-asset", {"data_urls": [body["ip_image"]]}),
        (http, "/v1/characters", {"name": "hero", "ip_image": body["ip_image"]}),
        (http, "/v1/keys", {"name": "second"}),
        (admin, "/v1/admin/accounts", {"name": f"account {uuid.uuid4()}"}),
        (admin, f"{http.account}/credits", {"credits": 2}),
        (admin, f"{http.account}/keys", {"name": "third"}),
    ]
    for client, path, asked in posts:
        once = {"Idempotency-Key": str(uuid.uuid4())}
        first, second = (client.post(path, json=asked, headers=once) for _ in range(2))
        assert first.status_code in (200, 201), first.text
        assert (second.status_code, second.json()) == (first.status_code, first.json()), path
        other = client.post(path, json={**asked, next(iter(asked)): 3}, headers=once)
        assert other.status_code in (400, 409), path
    assert http.get("/v1/get-user-credits").json()["credits"] == 3
    assert [key["name"] for key in http.get("/v1/keys").json()["keys"]] == ["key", "second", "third"]


def test_a_picture_is_the_same_however_it_is_written(open_account, body):
    http, bare = open_account(), body["ip_image"].partition(",")[2]
    for path, one, other in (
        ("/upload-asset", {"data_urls": [body["ip_image"]]}, {"data_urls": [bare]}),
        ("/v1/characters", {"name": "x", "ip_image": body["ip_image"]}, {"name": "x", "ip_image": bare}),
    ):
        once = {"Idempotency-Key": str(uuid.uuid4())}
        first, second = (http.post(path, json=asked, headers=once) for asked in (one, other))
        assert first.is_success, first.text
        assert (second.status_code, second.json()) == (first.status_code, first.json())


def test_a_picture_that_has_expired_is_not_there(start_service, body, once):
    service = start_service(engine="null", file_ttl_seconds=0.1, sweep_interval_seconds=0.1)
    with open_client(service) as http:
        assert http.post(f"/v1/{SLUG}", json=body, headers=once).status_code == 200
        deadline = time.monotonic() + 30
        while (answer := http.post(f"/v1/{SLUG}", json=body, headers=once)).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


def test_a_key_that_was_made_once_works_and_is_kept_nowhere(open_account, billing_service, once):
    http = open_account()
    made = [http.post("/v1/keys", json={}, headers=once).json()["key"] for _ in range(2)]
    assert made[0] == made[1]
    assert http.get("/v1/keys", headers={"x-api-key": made[0]}).status_code == 200
    for file in billing_service.data_dir.glob("understudy.sqlite3*"):
        assert made[0].encode() not in file.read_bytes()
