"""How often a key may submit and ask, and what it is told of that."""

from __future__ import annotations

import json
import re
import sqlite3
import time
import uuid
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from picture_host import serve_picture
from service_client import SLUG, make_key, open_client
from understudy.settings import Settings

HEADERS = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset-at-utc")


def test_submits_are_limited_and_told_in_headers(open_account, body):
    http = open_account(credits=1, submits_per_minute=3)
    answers = [http.post(f"/v2/{SLUG}", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-rate-limit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 21
    for answer in answers:
        assert answer.headers["x-rate-limit-limit"] == "3"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer.headers["x-rate-limit-reset-at-utc"])


def test_a_limit_is_a_keys(open_account, admin, body):
    http = open_account(credits=1, submits_per_minute=3)
    assert http.post(f"/v2/{SLUG}", json=body).headers["x-rate-limit-remaining"] == "2"
    second = admin.post(f"{http.account}/keys", json={"submits_per_minute": 5}).json()["key"]
    answer = http.post(f"/v1/{SLUG}", json=body, headers={"x-api-key": second})
    assert (answer.status_code, answer.headers["x-rate-limit-remaining"]) == (200, "4")


def test_keys_that_one_makes_are_worth_no_more_than_one(open_account, body, picture_path):
    """Make a key, submit with it, revoke it, and again: what comes through is one key's share."""
    http = open_account(credits=1, submits_per_minute=2, concurrent_jobs=1)
    with serve_picture(picture_path) as host:
        waits = {**body, "ip_image": f"{host.url}/slow.png"}
        answers, maker = [], http.headers["x-api-key"]
        for _ in range(25):
            # Keys that are made by keys that were made, too.
            made = http.post("/v1/keys", json={}, headers={"x-api-key": maker}).json()
            answers.append(http.post(f"/v2/{SLUG}", json=waits, headers={"x-api-key": made["key"]}))
            http.delete(f"/v1/keys/{made['id']}", headers={"x-api-key": maker})
            if len(answers) % 10 == 5:
                maker = http.post("/v1/keys", json={}).json()["key"]
        assert [answer.status_code for answer in answers] == [200] + [429] * 24
        assert {answer.json()["code"] for answer in answers[1:]} == {"rate_limited"}
        assert len(http.get("/v1/requests").json()["requests"]) == 1


def test_an_account_makes_so_many_keys_in_a_day(open_account, billing_service):
    http = open_account()
    (own,) = http.get("/v1/keys").json()["keys"]
    with closing(sqlite3.connect(billing_service.data_dir / "understudy.sqlite3", timeout=60)) as database:
        # As if it had made and revoked them; a request for each would take long.
        database.executemany(
            "INSERT INTO keys (id, account_id, name, prefix, digest, counted_as, created_at, revoked_at)"
            " SELECT ?1, account_id, name, prefix, ?1, id, created_at, created_at FROM keys WHERE id = ?2",
            [(str(uuid.uuid4()), own["id"]) for _ in range(499)],
        )
        database.commit()
    assert http.post("/v1/keys", json={}).status_code == 201
    refused = http.post("/v1/keys", json={})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 80_000 < int(refused.headers["retry-after"]) <= 86_400


def post_head(http, path: str) -> tuple[int, dict]:
    """What a POST is answered with whose body never comes."""
    connection = HTTPConnection(http.base_url.host, http.base_url.port, timeout=30)
    try:
        connection.putrequest("POST", path)
        headers = {"content-type": "application/json", "content-length": "50000000"}
        for name, value in {**headers, "x-api-key": http.headers["x-api-key"]}.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_what_would_be_refused_is_refused_before_it_is_read(open_account, body, picture_path):
    poor, spent, busy = (
        open_account(),
        open_account(credits=1, submits_per_minute=1),
        open_account(credits=1, concurrent_jobs=1),
    )
    with serve_picture(picture_path) as host:
        for http in (spent, busy):
            waits = {**body, "ip_image": f"{host.url}/slow.png"}
            assert http.post(f"/v2/{SLUG}", json=waits).status_code == 200
        # What is left is remembered for half a second.
        time.sleep(0.6)
        for path in (f"/v1/{SLUG}", f"/v2/{SLUG}"):
            status, told = post_head(poor, path)
            assert (status, told["code"]) == (406, "insufficient_credits")
            assert "at least 0.001 credits and the account has 0;" in told["error"]
            assert [post_head(http, path)[0] for http in (spent, busy)] == [429, 429]
        assert "jobs that have not ended" in post_head(busy, f"/v2/{SLUG}")[1]["error"]


def test_what_is_known_is_answered_though_nothing_is_left(open_account, body):
    http = open_account(credits=0.002, submits_per_minute=1)
    once = {"Idempotency-Key": str(uuid.uuid4())}
    first, again = (http.post(f"/v1/{SLUG}", json=body, headers=once) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    assert again.headers["x-rate-limit-remaining"] == "0"
    other = {"Idempotency-Key": str(uuid.uuid4())}
    assert http.post(f"/v1/{SLUG}", json=body, headers=other).status_code == 429


def test_requests_of_any_kind_are_counted_before_they_are_read(open_account):
    http = open_account(credits=1, submits_per_minute=1)
    paths = [f"/v2/{SLUG}?dry_run=true", "/upload-asset", "/v1/characters", "/v1/keys", f"/v1/{SLUG}"]
    codes, count = [], 0
    while codes[-5:] != [429] * 5:
        assert count < 500, "what is not limited never ends"
        codes.append((answer := http.post(paths[count % 5], content=b"{")).status_code)
        count += 1
    assert codes.index(429) >= 62
    assert set(codes) <= {400, 406, 429}
    assert "62 requests of any kind" in answer.json()["error"]
    assert post_head(http, "/upload-asset")[0] == 429
    assert http.get("/v1/keys").status_code == 200


def test_every_answer_of_a_limited_route_tells_what_is_left(open_account, body, picture_path):
    http = open_account(credits=0.0075, submits_per_minute=9, concurrent_jobs=1)
    once = {"Idempotency-Key": str(uuid.uuid4())}
    with serve_picture(picture_path) as host:
        fails = {**body, "ip_image": "http://127.0.0.1:9/none.png"}
        waits = {**body, "ip_image": f"{host.url}/slow.png"}
        answers = [
            http.post(f"/v1/{SLUG}", json=fails),
            http.post(f"/v2/{SLUG}", json={**fails, "num_images": 8}),
            http.post(f"/v2/{SLUG}", json={**body, "num_images": 8}),
            http.post(f"/v2/{SLUG}", json={**body, "steps": 1000}),
            http.post(f"/v2/{SLUG}", json=waits, headers=once),
            http.post(f"/v2/{SLUG}", json=body),
            http.post(f"/v2/{SLUG}", json=waits, headers=once),
        ]
    assert [answer.status_code for answer in answers] == [422, 406, 406, 400, 200, 429, 200]
    assert answers[5].json()["code"] == "rate_limited"
    for answer in answers:
        assert answer.headers["x-rate-limit-limit"] == "9", answer.text
        assert re.fullmatch(r"20\d\d-[0-9T:-]*Z", answer.headers["x-rate-limit-reset-at-utc"])
    left = [int(answer.headers["x-rate-limit-remaining"]) for answer in answers]
    # A submit that is too dear counts once its transaction is begun; what is refused before does not.
    assert left[0] == 8
    assert left[1:3] == [7, 7]
    assert left[4] == 6


def test_a_full_queue_and_a_deadline_tell_what_is_left(start_service, body, picture_path):
    service = start_service(
        engine="null",
        queue_limit=1,
        submits_per_minute=9,
        sync_deadline_seconds=0.5,
        fetch_allowed_hosts="127.0.0.1",
    )
    with serve_picture(picture_path) as host, open_client(service) as http:
        waits = {**body, "ip_image": f"{host.url}/slow.png"}
        late, full = http.post(f"/v1/{SLUG}", json=waits), http.post(f"/v2/{SLUG}", json=body)
    assert (late.status_code, late.headers["x-rate-limit-remaining"]) == (504, "8")
    assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert full.headers["x-rate-limit-remaining"] == "8"


def test_what_is_refused_makes_no_job(open_account, body):
    http = open_account(credits=1, submits_per_minute=1)
    for _ in range(3):
        http.post(f"/v1/{SLUG}", json=body)
    assert len(http.get("/v1/requests").json()["requests"]) == 1
    assert len(http.get("/v1/credits").json()["entries"]) == 4


def test_without_a_limit_nothing_is_told_of_it(http, body):
    answer = http.post(f"/v2/{SLUG}", json=body)
    assert not set(HEADERS) & set(answer.headers)


@pytest.fixture(scope="module")
def slow_service(start_service):
    """A service that answers one poll a second of each thing, in bursts of ten."""
    return start_service(engine="null", polls_per_second=1)


def test_polls_are_limited_for_each_job_and_for_what_is_not_there(slow_service, body):
    with open_client(slow_service) as http:
        jobs = [http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"] for _ in range(3)]
        paths = (f"/v2/requests/{jobs[0]}", "/v2/requests/nothing/status", f"/v2/requests/{jobs[2]}/events")
        for path in paths:
            answers = [http.get(path) for _ in range(30)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert refused
            assert refused[0].json()["code"] == "rate_limited"
            assert int(refused[0].headers["retry-after"]) >= 1
            assert refused[0].headers["x-rate-limit-remaining"] == "0"
            assert answers[9].status_code in (200, 404)
            assert answers[0].headers.get("x-rate-limit-remaining", "9") == "9"
        assert http.get(f"/v2/requests/{jobs[1]}").status_code == 200


def test_pages_of_lists_are_limited_together_and_nothing_else_with_them(slow_service, body):
    """A page of them costs what hundreds of polls do, and everybody would wait for it."""
    paths = ("requests", "characters", "keys", "credits", "usage", "webhooks/deliveries")
    with (
        open_client(slow_service, make_key(slow_service, "reader")) as http,
        open_client(slow_service) as other,
    ):
        done = http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"]
        for path in paths:
            # Each of them alone could go on for ever.
            refused = read_until_refused(http, f"/v1/{path}")
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited"), path
            assert int(refused.headers["retry-after"]) >= 1
        for path in (f"/v2/requests/{done}", "/v1/models", "/v1/get-user-credits"):
            assert http.get(path).status_code == 200
        assert other.get("/v1/requests").status_code == 200


def read_until_refused(http, path):
    """The first answer that is no success, or the five hundredth."""
    for _ in range(500):
        answer = http.get(path)
        if not answer.is_success:
            break
    return answer


def test_a_key_has_so_many_streams_of_events_open(start_service, body, picture_path):
    service = start_service(engine="null", event_streams=2, fetch_allowed_hosts="127.0.0.1")
    with serve_picture(picture_path) as host, open_client(service) as http, ExitStack() as open_ones:
        waits = {**body, "ip_image": f"{host.url}/slow.png"}
        events = f"{http.post(f'/v2/{SLUG}', json=waits).json()['response_url']}/events"
        streams = [open_ones.enter_context(http.stream("GET", events)).iter_lines() for _ in range(2)]
        assert all(next(lines).startswith("id: ") for lines in streams)
        refused = http.get(events)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) >= 1
        open_ones.close()
        deadline = time.monotonic() + 30
        while True:
            with http.stream("GET", events) as stream:
                if stream.status_code == 200:
                    break
            assert time.monotonic() < deadline, "a stream that its listener left is not counted any more"
            time.sleep(0.05)


def test_only_who_listens_for_others_bills_and_limits_by_itself():
    own, open_to_others = (Settings().decide_for(loopback=loopback) for loopback in (True, False))
    told = ("credits", "submits_per_minute", "concurrent_jobs", "account_concurrent_jobs", "polls_per_second")
    assert [getattr(own, name) for name in told] == ["off", 0, 0, 0, 0]
    assert [getattr(open_to_others, name) for name in told] == ["on", 600, 1000, 2000, 50]
    behind_a_proxy = Settings(public_url="https://pictures.example.org").decide_for(loopback=True)
    assert behind_a_proxy == open_to_others.model_copy(update={"public_url": "https://pictures.example.org"})
    for loopback in (True, False):
        given = Settings(credits="off", submits_per_minute=3, concurrent_jobs=0).decide_for(loopback=loopback)
        assert (given.credits, given.submits_per_minute, given.concurrent_jobs) == ("off", 3, 0)
