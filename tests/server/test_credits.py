"""What a picture costs, what is held and charged for it, and where it is told."""

from __future__ import annotations

from decimal import Decimal

import pytest

from picture_host import serve_picture
from service_client import SLUG
from understudy.accounts.credits import format_credits, parse_credits
from understudy.errors import InvalidRequest

PRICE = 0.002
"""Of the null engine, for a picture of 1024 x 1024."""


def read_ledger(http):
    return [(one["kind"], one["credits"]) for one in http.get("/v1/credits").json()["entries"]]


def test_a_picture_is_held_then_charged_and_told_everywhere(open_account, body):
    http = open_account(credits=0.0055)
    answer = http.post(f"/v1/{SLUG}", json=body)
    assert (answer.headers["x-cost"], answer.headers["x-remaining-credits"]) == ("0.002", "0.0035")
    result = http.get(f"/v2/requests/{answer.headers['x-request-id']}").json()
    assert (result["metrics"]["cost"], result["metrics"]["remaining_credits"]) == (0.002, 0.0035)
    assert http.get("/v1/get-user-credits").json() == {"credits": 0.0035, "free-credits": 0.0}
    assert read_ledger(http) == [
        ("charge", -PRICE),
        ("release", PRICE),
        ("hold", -PRICE),
        ("grant", 0.0055),
    ]
    (usage,) = http.get("/v1/usage").json()["usage"]
    assert (usage["model"], usage["completed"], usage["failed"]) == (SLUG, 1, 0)
    assert (usage["pictures"], usage["cost"]) == (1, PRICE)


def test_too_few_credits_are_refused_with_both_amounts_and_nothing_happens(open_account, body):
    http = open_account(credits=0.0035)
    for path in (f"/v1/{SLUG}", f"/v2/{SLUG}"):
        answer = http.post(path, json={**body, "num_images": 2})
        assert (answer.status_code, answer.json()["code"]) == (406, "insufficient_credits")
        assert "0.004" in answer.json()["error"]
        assert "0.0035" in answer.json()["error"]
    assert http.get("/v1/requests").json()["requests"] == []
    assert read_ledger(http) == [("grant", 0.0035)]
    assert http.post(f"/v1/{SLUG}", json=body).status_code == 200


def test_what_fails_is_not_charged(open_account, body):
    http = open_account(credits=1)
    answer = http.post(f"/v1/{SLUG}", json={**body, "ip_image": "http://127.0.0.1:9/none.png"})
    assert answer.status_code == 422
    assert "cost" not in answer.json()["metrics"]
    assert read_ledger(http) == [("release", PRICE), ("hold", -PRICE), ("grant", 1.0)]
    assert http.get("/v1/get-user-credits").json()["credits"] == 1.0
    (usage,) = http.get("/v1/usage").json()["usage"]
    assert (usage["completed"], usage["failed"], usage["cost"]) == (0, 1, 0.0)


def test_a_deleted_request_stays_billed(open_account, body):
    http = open_account(credits=1)
    request_id = http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"]
    assert http.delete(f"/v1/requests/{request_id}").status_code == 200
    assert http.get("/v1/get-user-credits").json()["credits"] == 1 - PRICE
    assert http.get("/v1/credits").json()["entries"][0]["request_id"] == request_id
    assert http.get("/v1/usage").json()["usage"][0]["completed"] == 1


@pytest.mark.parametrize(
    ("asked", "cost"),
    [
        ({}, PRICE),
        ({"width": 512, "height": 512}, PRICE / 2),
        ({"width": 512, "height": 513}, PRICE),
        ({"width": 1025, "height": 1024}, 2 * PRICE),
        ({"width": 2048, "height": 2048}, 4 * PRICE),
        ({"num_images": 3}, 3 * PRICE),
        ({"poses": ["wave", "run"], "num_images": 2, "width": 300, "height": 300}, 2 * PRICE),
    ],
)
def test_a_dry_run_tells_the_price_by_size_and_number(open_account, body, asked, cost):
    http = open_account()
    answer = http.post(f"/v2/{SLUG}?dry_run=true", json={**body, **asked}).json()
    assert answer["cost"] == pytest.approx(cost, abs=1e-9)
    assert http.get("/v1/requests").json()["requests"] == []


def test_the_catalogue_tells_prices(admin):
    model = admin.get(f"/v1/models/{SLUG}").json()
    assert model["price"] == PRICE
    assert [(one["most_pixels"], one["price"]) for one in model["prices"]] == [
        (512 * 512, PRICE / 2),
        (1024 * 1024, PRICE),
        (1536 * 1536, 2 * PRICE),
        (2048 * 2048, 4 * PRICE),
    ]


def test_where_credits_are_off_nothing_costs_anything(http, body):
    answer = http.post(f"/v1/{SLUG}", json=body)
    assert answer.headers["x-cost"] == "0"
    assert "x-remaining-credits" not in answer.headers
    result = http.get(f"/v2/requests/{answer.headers['x-request-id']}").json()
    assert result["metrics"]["cost"] == 0
    assert "remaining_credits" not in result["metrics"]
    assert http.get("/v1/credits").json() == {"entries": [], "next": None}
    assert http.get(f"/v1/models/{SLUG}").json()["price"] == 0


def test_grants_are_exact_and_bounded(open_account, admin):
    http = open_account(credits=0.1)
    granted = [admin.post(f"{http.account}/credits", json={"credits": 0.1}).json() for _ in range(2)]
    assert granted[-1] == {"credits": 0.3, "free-credits": 0.0}
    for credits in (-0.300001, 0, 0.0000001, 1e12, "much"):
        answer = admin.post(f"{http.account}/credits", json={"credits": credits})
        assert (answer.status_code, answer.json()["field"]) == (400, "credits"), credits
    taken = admin.post(f"{http.account}/credits", json={"credits": -0.3, "note": "a mistake"}).json()
    assert taken["credits"] == 0
    newest = admin.get(f"{http.account}/credits?limit=1").json()
    assert (newest["entries"][0]["credits"], newest["entries"][0]["note"]) == (-0.3, "a mistake")
    rest = admin.get(f"{http.account}/credits?cursor={newest['next']}").json()
    assert [entry["credits"] for entry in rest["entries"]] == [0.1, 0.1, 0.1]


def test_what_is_cancelled_gives_its_hold_back(open_account, picture_path, body):
    http = open_account(credits=1)
    with serve_picture(picture_path) as host:
        slow = {**body, "ip_image": f"{host.url}/slow.png"}
        submitted = http.post(f"/v2/{SLUG}", json=slow).json()
        assert http.get("/v1/get-user-credits").json()["credits"] == 1 - PRICE
        assert http.delete(submitted["response_url"]).status_code == 200
    assert http.get("/v1/get-user-credits").json()["credits"] == 1.0
    assert read_ledger(http)[0] == ("release", PRICE)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "0.0000001", "1e30", "1_0 0", "--1"])
def test_what_is_no_number_of_credits_is_refused(text):
    with pytest.raises(InvalidRequest):
        parse_credits(text)


@pytest.mark.parametrize("microcredits", [0, 1, -1, 580_000, 10_000_000, 10**18])
def test_credits_are_written_as_they_are_read(microcredits):
    text = format_credits(microcredits)
    assert parse_credits(text) == microcredits
    assert "E" not in text
    assert Decimal(text) * 1_000_000 == microcredits
