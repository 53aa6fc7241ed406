"""What a key may do, whose it is, and when it works no more."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from picture_host import serve_picture
from service_client import SLUG, open_client

GENERATING = [
    ("POST", f"/v2/{SLUG}"),
    ("POST", "/upload-asset"),
    ("POST", "/v1/characters"),
    ("PATCH", "/v1/characters/x"),
    ("DELETE", "/v1/characters/x"),
    ("DELETE", "/v2/requests/x"),
    ("PUT", "/v2/requests/x/cancel"),
    ("DELETE", "/v1/requests/x"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/x"),
    # To read it is enough to sign in the account's name.
    ("GET", "/v1/webhooks/secret"),
    ("POST", "/v1/webhooks/secret/rotate"),
    ("POST", "/v1/webhooks/deliveries/x/replay"),
]
READING = [
    *("/v1/models", f"/v1/models/{SLUG}", "/v1/poses", "/v1/requests", "/v1/characters", "/v1/keys"),
    *("/v1/usage", "/v1/credits", "/v1/get-user-credits", "/v2/requests/x", "/v2/requests/x/status"),
    *("/v1/requests/x", "/v2/requests/x/events", "/v1/webhooks/deliveries", "/v1/webhooks/deliveries/x"),
]
ADMIN = [
    ("GET", "/v1/admin/accounts"),
    ("POST", "/v1/admin/accounts"),
    ("GET", "/v1/admin/accounts/x"),
    ("PATCH", "/v1/admin/accounts/x"),
    ("GET", "/v1/admin/accounts/x/credits"),
    ("POST", "/v1/admin/accounts/x/credits"),
    ("GET", "/v1/admin/accounts/x/keys"),
    ("POST", "/v1/admin/accounts/x/keys"),
    ("GET", "/v1/admin/accounts/x/usage"),
    ("DELETE", "/v1/admin/keys/x"),
]


def refusal(answer):
    return answer.status_code, answer.json()["code"]


def wait_for(status, ask):
    """Ask until the answer has a status: what changes is felt within a second, and machines are slow."""
    deadline = time.monotonic() + 20
    while (answer := ask()).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    return answer


def test_a_key_that_may_only_read_changes_nothing(open_account):
    http = open_account(scopes=["read"])
    for method, path in GENERATING:
        answer = http.request(method, path, json={})
        assert refusal(answer) == (403, "forbidden"), (method, path)
        assert "generate" in answer.json()["error"]
    assert {http.get(path).status_code for path in READING if not path.endswith("events")} <= {200, 404}


def test_a_key_that_may_only_generate_reads_nothing(open_account, body):
    http = open_account(credits=1, scopes=["generate"])
    saved = {"name": "hero", "prompt": "what was saved", "ip_image": body["ip_image"]}
    assert http.post("/v1/characters", json=saved).status_code == 201
    told = [("GET", path) for path in READING] + [
        # They change something and are answered with all of it.
        ("PATCH", "/v1/characters/hero"),
        ("POST", "/v1/webhooks/deliveries/x/replay"),
        ("POST", "/v1/webhooks/secret/rotate"),
        ("GET", "/v1/webhooks/secret"),
    ]
    for method, path in told:
        answer = http.request(method, path, json={})
        assert refusal(answer) == (403, "forbidden"), (method, path)
        assert "the scope read" in answer.json()["error"]
    assert http.post(f"/v1/{SLUG}", json=body).status_code == 200


@pytest.mark.parametrize("scopes", [["read"], ["generate", "read"]])
def test_only_the_scope_admin_sees_other_accounts(open_account, scopes):
    http = open_account(scopes=scopes)
    for method, path in ADMIN:
        assert refusal(http.request(method, path, json={})) == (403, "forbidden"), (method, path)


def test_no_key_and_a_wrong_key_are_the_same_everywhere(admin):
    for method, path in [*GENERATING, *(("GET", path) for path in READING), *ADMIN]:
        answer = admin.request(method, path, json={}, headers={"x-api-key": ""})
        assert refusal(answer) == (401, "not_authenticated"), (method, path)


def test_a_key_uses_the_models_that_it_has(open_account, body):
    http = open_account(credits=1, models=["understudy-null"])
    assert refusal(http.post(f"/v2/{SLUG}", json=body)) == (403, "forbidden")
    assert refusal(http.post(f"/v1/{SLUG}", json=body)) == (403, "forbidden")
    assert http.post("/v2/understudy-null", json=body).status_code == 200


def test_only_a_key_of_the_whole_account_sees_and_replaces_what_signs_for_it(open_account, admin):
    http = open_account(models=["understudy-null"])
    whole = admin.post(f"{http.account}/keys", json={}).json()["key"]
    secret = "/v1/webhooks/secret"
    first = http.get(secret, headers={"x-api-key": whole}).json()["secret"]
    for method, path in (("GET", secret), ("POST", f"{secret}/rotate")):
        answer = http.request(method, path)
        assert refusal(answer) == (403, "forbidden"), path
        assert "every model" in answer.json()["error"]
    assert http.get(secret, headers={"x-api-key": whole}).json()["secret"] == first


def test_a_key_expires(open_account):
    http = open_account(expires_in_seconds=2)
    (key,) = http.get("/v1/keys").json()["keys"]
    assert 0 < key["expires_at"] - key["created_at"] <= 2.5
    assert wait_for(401, lambda: http.get("/v1/keys")).json()["code"] == "not_authenticated"
    assert time.time() >= key["expires_at"] - 0.1


def test_one_makes_lists_and_revokes_ones_own_keys(open_account, billing_service):
    http, other = open_account(), open_account()
    made = http.post("/v1/keys", json={"name": "studio", "scopes": ["read"]}).json()
    assert (made["name"], made["scopes"]) == ("studio", ["read"])
    assert [key["name"] for key in http.get("/v1/keys").json()["keys"]] == ["key", "studio"]
    assert made["key"] not in http.get("/v1/keys").text
    with open_client(billing_service, made["key"]) as reader:
        assert reader.get("/v1/keys").status_code == 200
        assert refusal(other.delete(f"/v1/keys/{made['id']}")) == (404, "key_not_found")
        assert reader.get("/v1/keys").status_code == 200
        revoked_at = http.delete(f"/v1/keys/{made['id']}").json()["revoked_at"]
        assert wait_for(401, lambda: reader.get("/v1/keys"))
    assert http.delete(f"/v1/keys/{made['id']}").json()["revoked_at"] == revoked_at


def test_a_key_gives_no_more_than_it_has(open_account):
    http = open_account(models=["understudy-null"], expires_in_seconds=1000, submits_per_minute=7)
    asked = {"scopes": ["admin"], "models": ["understudy-null"]}
    refused = http.post("/v1/keys", json=asked)
    assert refusal(refused) == (403, "forbidden")
    assert "only the scopes that it has: generate, read" in refused.json()["error"]
    for models in (None, [], [SLUG], [SLUG, "understudy-null"]):
        assert refusal(http.post("/v1/keys", json={"models": models})) == (403, "forbidden")
    made = http.post("/v1/keys", json={"models": ["understudy-null"], "expires_in_seconds": 5000}).json()
    (own, _) = http.get("/v1/keys").json()["keys"]
    assert (made["expires_at"], made["submits_per_minute"]) == (own["expires_at"], 7)


@pytest.mark.parametrize(
    ("own", "stronger"),
    [
        ({"scopes": ["generate"]}, {"scopes": ["generate", "read"]}),
        ({}, {"scopes": ["generate", "read", "admin"]}),
        ({"models": ["understudy-null"]}, {}),
        ({"models": ["understudy-null"]}, {"models": ["understudy-null", SLUG]}),
    ],
)
def test_a_key_revokes_none_that_can_do_more(open_account, admin, own, stronger):
    """One that leaks must not lock out those that it was made by."""
    http = open_account(**own)
    (mine,) = admin.get(f"{http.account}/keys").json()["keys"]
    strong, like = (admin.post(f"{http.account}/keys", json=key).json() for key in (stronger, own))
    assert refusal(http.delete(f"/v1/keys/{strong['id']}")) == (403, "forbidden")
    revoked = {key["id"]: key["revoked_at"] for key in admin.get(f"{http.account}/keys").json()["keys"]}
    assert revoked[strong["id"]] is None
    for key in (like, mine):
        assert http.delete(f"/v1/keys/{key['id']}").json()["revoked_at"] is not None


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"models": "all"}, "models"),
        ({"expires_in_seconds": True}, "expires_in_seconds"),
        # Left out, it would make a key without an end.
        ({"expires_in_days": 1}, "expires_in_days"),
    ],
)
def test_a_wrong_form_names_its_field(admin, asked, field):
    answer = admin.post("/v1/keys", json=asked)
    assert (*refusal(answer), answer.json()["field"]) == (400, "invalid_parameter", field)


def test_a_key_of_a_model_that_is_not_there_is_not_made(open_account, admin):
    http = open_account()
    for client, path in ((http, "/v1/keys"), (admin, f"{http.account}/keys")):
        answer = client.post(path, json={"models": [SLUG, "no-such-model"]})
        assert refusal(answer) == (404, "model_not_found")
        assert "'no-such-model'" in answer.json()["error"]
    assert len(http.get("/v1/keys").json()["keys"]) == 1


def test_a_limit_is_a_whole_number_however_it_is_written(open_account, admin):
    keys = f"{open_account().account}/keys"
    made = admin.post(keys, json={"submits_per_minute": 6.0, "concurrent_jobs": 0})
    assert (made.json()["submits_per_minute"], made.json()["concurrent_jobs"]) == (6, 0)
    for limit in (6.5, -1, True, "6"):
        answer = admin.post(keys, json={"submits_per_minute": limit})
        assert (*refusal(answer), answer.json()["field"]) == (
            *(400, "invalid_parameter"),
            "submits_per_minute",
        )


def test_an_account_has_no_end_of_keys(open_account):
    http = open_account()
    ids = [http.post("/v1/keys", json={}).json()["id"] for _ in range(99)]
    assert refusal(http.post("/v1/keys", json={})) == (409, "too_many_keys")
    http.delete(f"/v1/keys/{ids[0]}")
    assert http.post("/v1/keys", json={}).status_code == 201


def test_keys_that_expired_make_room(open_account, billing_service):
    http = open_account()
    for _ in range(99):
        assert http.post("/v1/keys", json={"expires_in_seconds": 3600}).status_code == 201
    assert refusal(http.post("/v1/keys", json={})) == (409, "too_many_keys")
    with closing(sqlite3.connect(billing_service.data_dir / "understudy.sqlite3", timeout=60)) as database:
        # An hour later.
        database.execute("UPDATE keys SET expires_at = 1.0 WHERE expires_at IS NOT NULL")
        database.commit()
    assert http.post("/v1/keys", json={}).status_code == 201


def test_keys_are_listed_in_pages(open_account):
    mine, theirs = open_account(), open_account()
    names = [mine.post("/v1/keys", json={"name": f"{n}"}).json()["name"] for n in range(6)]
    listed, cursor = [], None
    for expected in (3, 3, 1):
        page = mine.get("/v1/keys", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["keys"]) == expected
        listed += [key["name"] for key in page["keys"]]
        assert (page["next"] is None) == (expected == 1)
        cursor = page["next"] or cursor
    assert listed == ["key", *names]
    for client, wrong in ((theirs, cursor), (mine, "0" * 36)):
        assert refusal(client.get("/v1/keys", params={"cursor": wrong})) == (404, "key_not_found")


def test_a_disabled_account_may_do_nothing_until_it_is_enabled(open_account, admin):
    http = open_account()
    assert admin.patch(http.account, json={"disabled": True}).json()["disabled_at"] is not None
    assert wait_for(403, lambda: http.get("/v1/models")).json()["code"] == "account_disabled"
    assert http.post(f"/v2/{SLUG}", json={}).status_code == 403
    assert admin.patch(http.account, json={"disabled": False}).json()["disabled_at"] is None
    assert wait_for(200, lambda: http.get("/v1/models"))


def test_a_stream_of_events_ends_with_its_key(open_account, admin, picture_path, body):
    http = open_account(credits=1)
    (key,) = http.get("/v1/keys").json()["keys"]
    with serve_picture(picture_path) as host:
        slow = {**body, "ip_image": f"{host.url}/slow.png"}
        submitted = http.post(f"/v2/{SLUG}", json=slow).json()
        with http.stream("GET", f"{submitted['response_url']}/events") as events:
            lines = events.iter_lines()
            assert next(lines).startswith("id: ")
            admin.delete(f"/v1/admin/keys/{key['id']}")
            wait_for(401, lambda: http.get("/v1/keys"))
            # What would be told now: the job has failed.
            host.hang_up()
            assert not any("FAILED" in line for line in lines)


@pytest.mark.parametrize(
    ("end", "refused"),
    [
        (lambda admin, http, key: admin.delete(f"/v1/admin/keys/{key['id']}"), (401, "not_authenticated")),
        (
            lambda admin, http, key: admin.patch(http.account, json={"disabled": True}),
            (403, "account_disabled"),
        ),
    ],
    ids=["revoked", "account disabled"],
)
def test_a_wait_for_a_picture_ends_with_its_key(open_account, admin, picture_path, body, end, refused):
    http = open_account(credits=1)
    (key,) = http.get("/v1/keys").json()["keys"]
    with serve_picture(picture_path) as host, ThreadPoolExecutor(1) as threads:
        slow = {**body, "ip_image": f"{host.url}/slow.png"}
        waiting = threads.submit(http.post, f"/v1/{SLUG}", json=slow)
        while not http.get("/v1/requests").json()["requests"]:
            time.sleep(0.05)
        end(admin, http, key)
        assert refusal(waiting.result(timeout=60)) == refused
        # The job itself has no end yet: its picture's host has not answered.
        assert admin.get(f"{http.account}/usage").json()["usage"] == []
        host.hang_up()


def test_an_admin_revokes_any_key(open_account, admin):
    http = open_account()
    (key,) = admin.get(f"{http.account}/keys").json()["keys"]
    assert admin.delete(f"/v1/admin/keys/{key['id']}").json()["revoked_at"] is not None
    assert wait_for(401, lambda: http.get("/v1/models"))


def test_what_no_admin_knows_is_not_there(admin):
    for method, path in ADMIN:
        if "/x" in path:
            form = {
                "/v1/admin/accounts/x": {"disabled": True},
                "/v1/admin/accounts/x/credits": {"credits": 1},
            }
            answer = admin.request(method, path, json=form.get(path, {}))
            assert answer.status_code == 404, (method, path)
    name = {"name": "twice"}
    assert admin.post("/v1/admin/accounts", json=name).status_code == 201
    assert refusal(admin.post("/v1/admin/accounts", json=name)) == (409, "already_exists")


def test_what_is_another_accounts_is_not_there(open_account, body):
    mine, theirs = open_account(credits=1), open_account(credits=1)
    request_id = mine.post(f"/v1/{SLUG}", json=body).headers["x-request-id"]
    for method, path in (
        ("GET", "/v2/requests/{}/status"),
        ("GET", "/v2/requests/{}"),
        ("GET", "/v1/requests/{}"),
        ("GET", "/v2/requests/{}/events"),
        ("DELETE", "/v2/requests/{}"),
        ("PUT", "/v2/requests/{}/cancel"),
        ("DELETE", "/v1/requests/{}"),
    ):
        foreign = theirs.request(method, path.format(request_id))
        unknown = theirs.request(method, path.format("0" * 8))
        words = [answer.text.replace(request_id, "?").replace("0" * 8, "?") for answer in (foreign, unknown)]
        assert (foreign.status_code, words[0]) == (404, words[1]), (method, path)
    assert theirs.get("/v1/requests").json()["requests"] == []
    assert theirs.get("/v1/credits").json()["entries"][0]["kind"] == "grant"
    assert mine.get(f"/v2/requests/{request_id}").status_code == 200


@pytest.mark.parametrize(
    ("addresses", "are_slowed"),
    [
        ([f"2001:db8:0:7::{number:x}" for number in range(40)], True),
        ([f"2001:db8:0:{number:x}::7" for number in range(1000, 1040)], False),
        ([f"{prefix}198.51.100.7" for prefix in ("", "::ffff:") * 20], True),
        ([f"198.51.100.{number}" for number in range(100, 140)], False),
    ],
    ids=["one network of IPv6", "many of them", "one address of IPv4", "many of them"],
)
def test_wrong_keys_count_for_the_network_that_one_client_has(billing_service, addresses, are_slowed):
    with open_client(billing_service, "us_wrong") as wrong:
        # What a proxy on this machine tells of its clients.
        answers = {
            wrong.get("/v1/models", headers={"x-forwarded-for": address}).status_code for address in addresses
        }
    assert answers == ({401, 429} if are_slowed else {401})


def test_a_flood_of_wrong_keys_is_slowed_and_good_ones_are_not(billing_service, open_account):
    """Last in this file: the address of the tests itself is the one that is slowed."""
    http = open_account()
    with open_client(billing_service, "us_wrong") as wrong:
        answers = [wrong.get("/v1/models") for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert refusal(refused[0]) == (429, "rate_limited")
    assert int(refused[0].headers["retry-after"]) >= 1
    assert http.get("/v1/models").status_code == 200
