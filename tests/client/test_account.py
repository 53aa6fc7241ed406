"""Both clients and the account behind their key: credits, usage, keys, webhooks."""

from __future__ import annotations

import asyncio
import time
import uuid

import httpx2
import pytest
from standardwebhooks import Webhook

from receiver import receive
from understudy import Forbidden, InvalidRequest, NotAuthenticated, NotFound, ServiceError

from .conftest import Reply

SLUG = "consistent-character-AI-neolemon-v3"
PICTURE = {"prompt": "x", "width": 512, "height": 512}


@pytest.fixture
def account(make_face, billing_service):
    """A client with a key of an account of its own, which has one credit."""
    headers = {"x-api-key": billing_service.key}
    with httpx2.Client(base_url=billing_service.url, headers=headers, trust_env=False) as admin:
        opened = admin.post("/v1/admin/accounts", json={"name": f"account {uuid.uuid4()}"}).json()
        address = f"/v1/admin/accounts/{opened['id']}"
        admin.post(f"{address}/credits", json={"credits": 1}).raise_for_status()
        key = admin.post(f"{address}/keys", json={}).json()["key"]
    return make_face(billing_service.url, api_key=key)


async def wait_until(told):
    """Ask until something is told: what changes is felt within a second, and machines are slow."""
    deadline = time.monotonic() + 30
    while not (found := await told()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return found


async def test_credits_usage_and_the_ledger(account, picture_path):
    client = account.client
    assert await account(client.credits()) == 1
    assert await account(client.usage()) == []
    result = await account(client.run(SLUG, ip_image=picture_path, **PICTURE))
    cost = result["metrics"]["cost"]
    assert cost > 0
    assert await account(client.credits()) == pytest.approx(1 - cost, abs=1e-9)
    (day,) = await account(client.usage(days=2))
    assert (day["model"], day["completed"], day["failed"], day["pictures"]) == (SLUG, 1, 0, 1)
    assert day["cost"] == cost
    page = await account(client.ledger(limit=1))
    assert [(entry["kind"], entry["request_id"]) for entry in page["entries"]] == [
        ("charge", result["request_id"])
    ]
    rest = await account(client.ledger(cursor=page["next"]))
    assert [entry["kind"] for entry in rest["entries"]] == ["release", "hold", "grant"]
    assert sum(entry["credits"] for entry in (*page["entries"], *rest["entries"])) == pytest.approx(1 - cost)
    with pytest.raises(InvalidRequest):
        await account(client.usage(days=0))


async def test_a_dry_run_tells_the_cost_and_makes_no_job(account, picture_path):
    told = await account(
        account.client.dry_run(SLUG, ip_image=picture_path, poses=["wave", "run"], **PICTURE)
    )
    assert (told["dry_run"], told["pictures"]) == (True, 2)
    assert told["cost"] > 0
    assert await account(account.client.credits()) == 1
    assert (await account(account.client.history()))["requests"] == []
    with pytest.raises(InvalidRequest) as wrong:
        await account(account.client.dry_run(SLUG, ip_image=picture_path, steps=0, **PICTURE))
    assert wrong.value.field == "steps"


async def test_keys_are_made_listed_and_revoked(account, make_face, billing_service, picture_path):
    made = await account(account.client.create_key("studio", scopes=["read"], expires_in_seconds=600))
    assert (made["name"], made["scopes"]) == ("studio", ["read"])
    assert 0 < made["expires_at"] - made["created_at"] < 700
    listed = await account(account.client.keys())
    assert [key["name"] for key in listed] == ["key", "studio"]
    assert made["key"] not in str(listed)
    studio = make_face(billing_service.url, api_key=made["key"])
    assert await studio(studio.client.credits()) == 1
    with pytest.raises(Forbidden):
        await studio(studio.client.run(SLUG, ip_image=picture_path, **PICTURE))
    with pytest.raises(Forbidden):
        await account(account.client.create_key("more", scopes=["admin"]))
    limited = await account(account.client.create_key("limited", models=["understudy-null"]))
    assert limited["models"] == ["understudy-null"]
    await account(account.client.revoke_key(made["id"]))

    async def is_refused():
        try:
            await studio(studio.client.credits())
        except NotAuthenticated:
            return True

    assert await wait_until(is_refused)
    with pytest.raises(NotFound) as unknown:
        await account(account.client.revoke_key("no-such-key"))
    assert unknown.value.code == "key_not_found"


async def test_webhooks_are_verified_listed_and_replayed(account, picture_path):
    client = account.client
    secret = await account(client.webhook_secret())
    with receive() as receiver:
        result = await account(
            client.run(SLUG, ip_image=picture_path, webhook_url=f"{receiver.url}/hook", **PICTURE)
        )
        (received,) = receiver.wait_for(1)
        assert Webhook(secret).verify(received.body, received.headers) == result

        async def list_delivered():
            return (await account(client.webhooks(state="delivered")))["deliveries"]

        (delivery,) = await wait_until(list_delivered)
        assert (delivery["webhook_id"], delivery["request_id"]) == (received.id, result["request_id"])
        rotated = await account(client.rotate_webhook_secret())
        assert rotated != secret
        assert await account(client.webhook_secret()) == rotated
        assert (await account(client.replay_webhook(received.id)))["state"] == "pending"
        again = receiver.wait_for(2)[-1]
    assert again.id == received.id
    assert Webhook(rotated).verify(again.body, again.headers) == result
    with pytest.raises(NotFound) as unknown:
        await account(client.replay_webhook("msg_unknown"))
    assert unknown.value.code == "delivery_not_found"


async def test_an_answer_that_is_none_of_the_services(face, scripted):
    scripted.script("GET", "/v1/get-user-credits", Reply(body={"credits": "many"}))
    scripted.script("GET", "/v1/webhooks/secret", Reply(body=["secret"]))
    for call in (face.client.credits, face.client.webhook_secret):
        with pytest.raises(ServiceError) as caught:
            await face(call())
        assert caught.value.code == "unexpected_answer"
