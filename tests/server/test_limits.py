"""How often a key may submit and ask, and what it is told of that."""

from __future__ import annotations

import re
import sqlite3
import uuid
from contextlib import closing

import pytest

from picture_host import serve_picture
from service_client import SLUG, open_client
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
        for _ in range(30):
            # Keys that are made by keys that were made, too.
            made = http.post("/v1/keys", json={}, headers={"x-api-key": maker}).json()
            answers.append(http.post(f"/v2/{SLUG}", json=waits, headers={"x-api-key": made["key"]}))
            http.delete(f"/v1/keys/{made['id']}", headers={"x-api-key": maker})
            if len(answers) % 10 == 5:
                maker = http.post("/v1/keys", json={}).json()["key"]
        assert [answer.status_code for answer in answers] == [200] + [429] * 29
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
        jobs = [http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"] for _ in range(2)]
        for path in (f"/v2/requests/{jobs[0]}", "/v2/requests/nothing/status"):
            answers = [http.get(path) for _ in range(30)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert refused
            assert refused[0].json()["code"] == "rate_limited"
            assert int(refused[0].headers["retry-after"]) >= 1
            assert refused[0].headers["x-rate-limit-remaining"] == "0"
            assert answers[9].status_code in (200, 404)
            assert answers[0].headers.get("x-rate-limit-remaining", "9") == "9"
        assert http.get(f"/v2/requests/{jobs[1]}").status_code == 200


def test_only_who_listens_for_others_bills_and_limits_by_itself():
    own, open_to_others = (Settings().decide_for(loopback=loopback) for loopback in (True, False))
    told = ("credits", "submits_per_minute", "concurrent_jobs", "account_concurrent_jobs", "polls_per_second")
    assert [getattr(own, name) for name in told] == ["off", 0, 0, 0, 0]
    assert [getattr(open_to_others, name) for name in told] == ["on", 600, 1000, 2000, 50]
    for loopback in (True, False):
        given = Settings(credits="off", submits_per_minute=3, concurrent_jobs=0).decide_for(loopback=loopback)
        assert (given.credits, given.submits_per_minute, given.concurrent_jobs) == ("off", 3, 0)
