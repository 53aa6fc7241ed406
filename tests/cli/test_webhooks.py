"""`understudy webhooks`, beside a running service and without one."""

import base64
import json

from receiver import receive
from service_client import SLUG, make_key, open_client


def test_the_secret_is_the_routes_own_and_is_rotated(understudy, service):
    make_key(service, "reader of secrets")
    named = ("--data-dir", service.data_dir, "--account", "reader of secrets")
    first = understudy("webhooks", "secret", *named).stdout
    assert first == understudy("webhooks", "secret", *named).stdout
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.strip().removeprefix("whsec_"))) == 32
    rotated = understudy("webhooks", "rotate", *named).stdout
    assert rotated != first
    assert rotated == understudy("webhooks", "secret", *named).stdout
    done = understudy("webhooks", "secret", *named[:2], "--account", "nobody", status=1)
    assert "nobody" in done.stderr
    done = understudy("webhooks", "secret", *named[:2], status=2)
    assert "--account" in done.stderr


def test_deliveries_are_listed_and_replayed(understudy, service, picture_path):
    picture = base64.b64encode(picture_path.read_bytes()).decode()
    key = make_key(service, "listener")
    named = ("--data-dir", service.data_dir, "--account", "listener")
    with receive() as receiver, open_client(service, key) as http:
        body = {"prompt": "a hero", "ip_image": picture, "webhook_url": receiver.url}
        request_id = http.post(f"/v2/{SLUG}", json=body).json()["request_id"]
        (received,) = receiver.wait_for(1)
        assert request_id in understudy("webhooks", "list", *named).stdout
        understudy("webhooks", "replay", received.id, *named)
        assert [one.id for one in receiver.wait_for(2)] == [received.id] * 2
    (listed,) = json.loads(understudy("webhooks", "list", "--json", *named).stdout)
    assert (listed["id"], listed["job_id"]) == (received.id, request_id)
    assert understudy("webhooks", "list", "--state", "failed", *named).stdout.count("msg_") == 0
    understudy("webhooks", "list", "--state", "x", *named, status=2)
    understudy("webhooks", "replay", "msg_x", *named, status=1)
