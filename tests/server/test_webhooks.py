"""Webhooks: who asked for it is told of a job's end, signed, at least once, whatever happens between."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from picture_host import serve_picture
from receiver import Received, receive
from running_service import RunningService
from service_client import SLUG, make_key, open_client, wait_for_end
from understudy.pictures import read_provenance

DELIVERIES = "/v1/webhooks/deliveries"
PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture(scope="module")
def telling(start_service: Callable[..., RunningService]) -> RunningService:
    """A service that may call back to the loopback, and is quick to try again."""
    return start_service(engine="null", fetch_allowed_hosts="127.0.0.1", webhook_retry_seconds=0.05)


@pytest.fixture
def http(telling: RunningService) -> Iterator[httpx2.Client]:
    with open_client(telling) as client:
        yield client


def submit(http: httpx2.Client, body: dict[str, Any], url: str, **changes: Any) -> str:
    answer = http.post(f"/v2/{SLUG}", json={**body, **changes, "webhook_url": url})
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []
    return answer.json()["request_id"]


def read_log(http: httpx2.Client, request_id: str, *, attempts: int = 1, state: str | None = None) -> Any:
    """The delivery of a request, as soon as it has had so many attempts and, if given, that state."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        listed = http.get(DELIVERIES, params={"limit": 200}).json()["deliveries"]
        for delivery in listed:
            enough = len(delivery["attempts"]) >= attempts and state in (None, delivery["state"])
            if delivery["request_id"] == request_id and enough:
                return delivery
        time.sleep(0.05)
    raise AssertionError(listed)


def verify(received: Received, secret: str) -> Any:
    return Webhook(secret).verify(received.body, received.headers)


def read_secret(http: httpx2.Client) -> str:
    return http.get("/v1/webhooks/secret").json()["secret"]


def test_the_result_arrives_as_the_route_tells_it(http, body):
    with receive() as receiver:
        request_id = submit(http, body, f"{receiver.url}/hook?token=secret")
        (received,) = receiver.wait_for(1)
        assert received.path == "/hook?token=secret"
        assert received.headers["content-type"] == "application/json"
        told = verify(received, read_secret(http))
        assert told == http.get(f"/v2/requests/{request_id}").json()
        assert told["status"] == "COMPLETED"
        assert http.get(told["output"]).status_code == 200
        with pytest.raises(WebhookVerificationError):
            verify(Received(received.path, received.headers, received.body + b" "), read_secret(http))
        delivery = read_log(http, request_id, state="delivered")
        assert delivery["webhook_id"] == received.id
        assert delivery["next_attempt_at"] is None
        assert [(one["status"], one["error"]) for one in delivery["attempts"]] == [(200, None)]
        assert http.get(f"{DELIVERIES}/{received.id}").json() == delivery
        # The URL is the account's own affair and in no file.
        picture = http.get(told["output"]).content
        assert "token" not in json.dumps(read_provenance(picture))


def test_failures_and_cancelled_requests_are_told_too(http, body, picture_path):
    with receive() as receiver, serve_picture(picture_path) as pictures:
        failed = submit(http, body, f"{receiver.url}/failed", ip_image="http://127.0.0.1:9/a.png")
        (received,) = receiver.wait_for(1, "/failed")
        told = verify(received, read_secret(http))
        assert told == wait_for_end(http, failed).json()
        assert (told["status"], told["code"]) == ("FAILED", "picture_unreachable")
        cancelled = submit(http, body, f"{receiver.url}/cancelled", ip_image=f"{pictures.url}/slow")
        assert http.delete(f"/v2/requests/{cancelled}").status_code == 200
        (received,) = receiver.wait_for(1, "/cancelled")
        assert verify(received, read_secret(http))["code"] == "cancelled"
        blocked = submit(http, body, f"{receiver.url}/blocked", prompt="a nude teenager")
        (received,) = receiver.wait_for(1, "/blocked")
        assert verify(received, read_secret(http))["error"].startswith("content_policy_violation")
        assert wait_for_end(http, blocked).status_code == 422


def test_what_fails_is_tried_again_under_one_id(http, body):
    answers = [500, (307, {"location": "/elsewhere"}), 204]

    def answer(request: Received, before: int) -> Any:
        return answers[before] if request.path == "/hook" or before == 2 else 503

    with receive(answer) as receiver:
        request_id = submit(http, body, f"{receiver.url}/hook")
        delivery = read_log(http, request_id, state="delivered")
        assert [one.path for one in receiver.received] == ["/hook", "/hook", "/elsewhere"]
    assert len({one.id for one in receiver.received}) == 1
    assert len({one.body for one in receiver.received}) == 1
    assert [one["status"] for one in delivery["attempts"]] == [500, 204]
    assert delivery["attempts"][0]["error"] == "127.0.0.1 answers HTTP 500."


@pytest.mark.parametrize("location", ["ftp://elsewhere.example/", "http://a:b@elsewhere.example/"])
def test_a_redirect_to_nowhere_is_the_target_s_to_mend(http, body, location):
    def answer(request: Received, before: int) -> Any:
        return (307, {"location": location}) if before == 0 else 204

    with receive(answer) as receiver:
        delivery = read_log(http, submit(http, body, receiver.url), state="delivered")
    assert [one["status"] for one in delivery["attempts"]] == [307, 204]
    assert delivery["attempts"][0]["error"].startswith("It was not sent: its URL ")


def test_a_target_that_is_gone_is_left_alone_until_a_replay(http, body):
    with receive(lambda request, before: 410 if before == 0 else 200) as receiver:
        request_id = submit(http, body, receiver.url)
        failed = read_log(http, request_id, state="failed")
        assert [one["status"] for one in failed["attempts"]] == [410]
        listed = http.get(DELIVERIES, params={"state": "failed"}).json()["deliveries"]
        assert request_id in {delivery["request_id"] for delivery in listed}
        replayed = http.post(f"{DELIVERIES}/{failed['webhook_id']}/replay")
        assert replayed.json()["state"] == "pending"
        delivery = read_log(http, request_id, attempts=2, state="delivered")
        # Delivered once more though it was delivered already.
        for _ in range(3):
            again = http.post(
                f"{DELIVERIES}/{failed['webhook_id']}/replay", headers={"idempotency-key": request_id}
            )
            assert (again.status_code, again.json()["state"]) == (200, "pending")
        read_log(http, request_id, attempts=3, state="delivered")
        assert [one.id for one in receiver.wait_for(3)] == [delivery["webhook_id"]] * 3
        assert len(receiver.received) == 3


def test_the_log_is_told_in_pages_and_goes_with_its_requests(http, body):
    with receive() as receiver:
        ids = [submit(http, body, f"{receiver.url}/{number}") for number in range(3)]
        for request_id in ids:
            read_log(http, request_id, state="delivered")
    page = http.get(DELIVERIES, params={"limit": 2}).json()
    assert len(page["deliveries"]) == 2
    rest = http.get(DELIVERIES, params={"limit": 1, "cursor": page["next"]}).json()["deliveries"]
    assert {one["request_id"] for one in page["deliveries"] + rest} == set(ids)
    assert http.get(DELIVERIES, params={"cursor": "x"}).status_code == 400
    delivery = rest[0]
    assert http.delete(f"/v1/requests/{delivery['request_id']}").status_code == 200
    gone = http.get(f"{DELIVERIES}/{delivery['webhook_id']}")
    assert (gone.status_code, gone.json()["code"]) == (404, "delivery_not_found")


def test_a_new_secret_signs_beside_the_old_one(http, body):
    old = read_secret(http)
    rotated = http.post("/v1/webhooks/secret/rotate").json()
    assert rotated["secret"] not in ("", old)
    assert rotated["previous_secret_until"] > time.time() + 23 * 3600
    assert read_secret(http) == rotated["secret"]
    with receive() as receiver:
        submit(http, body, receiver.url)
        (received,) = receiver.wait_for(1)
    again = {"idempotency-key": "rotated-once"}
    twice = [http.post("/v1/webhooks/secret/rotate", headers=again).json() for _ in range(2)]
    assert twice[0] == twice[1]
    assert verify(received, old) == verify(received, rotated["secret"])
    newest = http.post("/v1/webhooks/secret/rotate").json()["secret"]
    with receive() as receiver:
        submit(http, body, receiver.url)
        (received,) = receiver.wait_for(1)
    assert verify(received, newest)
    with pytest.raises(WebhookVerificationError):
        verify(received, old)


def test_another_account_has_another_secret_and_sees_no_delivery(http, body, telling):
    with receive() as receiver:
        request_id = submit(http, body, receiver.url)
        mine = read_log(http, request_id)["webhook_id"]
    with open_client(telling, make_key(telling, "webhook stranger")) as stranger:
        assert read_secret(stranger) != read_secret(http)
        assert stranger.get(DELIVERIES).json() == {"deliveries": [], "next": None}
        for answer in (stranger.get(f"{DELIVERIES}/{mine}"), stranger.post(f"{DELIVERIES}/{mine}/replay")):
            assert (answer.status_code, answer.json()["code"]) == (404, "delivery_not_found")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "http://", "http://user:word@example.org/", "x", ""),
        # What one reader of URLs takes for one, and who sends it does not.
        *("http://example.org/\x01", "http://\u00ad/", "http://[v1.a]/", "http://[::1]x/", "http://a^b/"),
        "http://[::1%25x]\u00ad]/",
    ],
)
def test_what_is_no_address_is_refused_at_once(http, body, url):
    answer = http.post(f"/v2/{SLUG}", json={**body, "webhook_url": url})
    assert (answer.status_code, answer.json()["field"]) == (400, "webhook_url")


def test_only_public_hosts_and_those_that_are_named_are_called(start_service, body):
    with receive() as inside, receive() as allowed:
        allowed.answer = lambda request, before: (308, {"location": f"{inside.url}/inside"})
        service = start_service(
            engine="null", fetch_allowed_hosts=f"127.0.0.1:{allowed.port}", webhook_retry_seconds=60
        )
        with open_client(service) as http:
            for url, status in (
                (f"{inside.url}/direct", None),
                (f"{allowed.url}/redirected", 308),
                ("http://localhost:1/", None),
            ):
                delivery = read_log(http, submit(http, body, url))
                assert delivery["state"] == "pending"
                (attempt,) = delivery["attempts"]
                assert "is not a host of the public internet" in attempt["error"]
                assert attempt["status"] == status
            assert [one.path for one in allowed.received] == ["/redirected"]
            assert inside.received == []


def test_a_target_that_hangs_holds_up_no_other(http, body):
    with receive(lambda request, before: None) as hanging, receive() as prompt:
        for _ in range(8):
            submit(http, body, hanging.url)
        hanging.wait_for(4)
        submit(http, body, prompt.url)
        prompt.wait_for(1, seconds=10)
        # Most of the others wait their turn, which takes nobody else's.
        assert len(hanging.received) < 8


def test_nothing_is_lost_when_the_service_is_killed(start_service, body):
    service = start_service(engine="null", fetch_allowed_hosts="127.0.0.1", webhook_retry_seconds=0.2)
    with receive(lambda request, before: None if before == 0 else 500) as receiver:
        with open_client(service) as http:
            ids = [submit(http, body, f"{receiver.url}/{number}") for number in range(6)]
            # Some hang half-way, some were never begun.
            receiver.wait_for(4)
            for request_id in ids:
                assert wait_for_end(http, request_id).status_code == 200
        service.kill()
        before = list(receiver.received)
    with receive(port=receiver.port) as receiver:
        service.start()
        with open_client(service) as http:
            delivered = [read_log(http, request_id, state="delivered") for request_id in ids]
            secret = read_secret(http)
        seen = [*before, *receiver.received]
    by_id = {delivery["webhook_id"]: delivery["request_id"] for delivery in delivered}
    assert len(by_id) == 6
    assert {one.id for one in receiver.received} == set(by_id)
    for one in seen:
        assert verify(one, secret)["request_id"] == by_id[one.id]


def test_the_receiver_of_the_documentation_works(http, body):
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    receiver = subprocess.Popen(
        [sys.executable, "-c", program.replace("8001", str(port))],
        env={**os.environ, "WEBHOOK_SECRET": read_secret(http)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        request_id = submit(http, body, f"http://127.0.0.1:{port}/")
        delivery = read_log(http, request_id, state="delivered")
        output = http.get(f"/v2/requests/{request_id}").json()["output"]
        assert receiver.stdout.readline() == f"{request_id} COMPLETED {output}\n"
        assert http.post(f"{DELIVERIES}/{delivery['webhook_id']}/replay").status_code == 200
        read_log(http, request_id, attempts=len(delivery["attempts"]) + 1, state="delivered")
        forged = httpx2.post(f"http://127.0.0.1:{port}/", json={"status": "COMPLETED"}, trust_env=False)
        assert forged.status_code == 401
    finally:
        receiver.kill()
        receiver.wait()
    # The replay was seen before, the forgery never.
    assert receiver.stdout.read() == ""
