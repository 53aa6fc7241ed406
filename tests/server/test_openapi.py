"""The served OpenAPI tells the truth: Schemathesis asks every route what it says it answers."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service_client import SLUG, open_client
from understudy.pose.drawing import draw_skeleton
from understudy.pose.library import find_pose

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")

CONFIG = """
hooks = {hooks!r}
request-timeout = 30
max-stream-events = 5

[generation]
allow-x00 = false

# What is valid by the schema is accepted. The exceptions are below, each with its reason.
[checks]
positive_data_acceptance.expected-statuses = ["2xx"]

[parameters]
"path.slug" = {slug!r}

[[operations]]
include-path-regex = "^/v2/requests/"
parameters = {{ "path.request_id" = {request_id!r} }}

# Of a request that has ended.
[[operations]]
include-name = ["DELETE /v2/requests/{{request_id}}", "PUT /v2/requests/{{request_id}}/cancel"]
checks.positive_data_acceptance.expected-statuses = ["409"]

[[operations]]
include-name = "GET /v1/requests/{{request_id}}"
parameters = {{ "path.request_id" = {request_id!r} }}

# Deleted is deleted: the second time there is nothing.
[[operations]]
include-name = "DELETE /v1/requests/{{request_id}}"
parameters = {{ "path.request_id" = {deleted_id!r} }}
checks.positive_data_acceptance.expected-statuses = ["2xx", "404"]

[[operations]]
include-name = "DELETE /v1/characters/{{name}}"
parameters = {{ "path.name" = "deleted" }}
checks.positive_data_acceptance.expected-statuses = ["2xx", "404"]

[[operations]]
include-name = "GET /v1/characters/{{name}}"
parameters = {{ "path.name" = "kept" }}

# It is renamed by the first that gives it another name.
[[operations]]
include-name = "PATCH /v1/characters/{{name}}"
parameters = {{ "path.name" = "changed" }}
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409"]

# A name may come twice.
[[operations]]
include-name = "POST /v1/characters"
checks.positive_data_acceptance.expected-statuses = ["2xx", "409"]

[[operations]]
include-path-regex = "^/v1/webhooks/deliveries/"
parameters = {{ "path.webhook_id" = {webhook_id!r} }}

[[operations]]
include-path-regex = "^/v1/admin/accounts/[{{]account_id[}}]"
parameters = {{ "path.account_id" = {account_id!r} }}

[[operations]]
include-path-regex = "^/v1/(admin/)?keys/[{{]key_id[}}]"
parameters = {{ "path.key_id" = {key_id!r} }}

# A name may come twice, and an account has its fill of keys; no schema says which models there are.
[[operations]]
include-name = [
    "POST /v1/admin/accounts", "POST /v1/keys", "POST /v1/admin/accounts/{{account_id}}/keys"
]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409"]

# Nor which keys a page ended with.
[[operations]]
include-name = ["GET /v1/keys", "GET /v1/admin/accounts/{{account_id}}/keys"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404"]

# No schema says: not nothing, and no finer than a micro-credit.
[[operations]]
include-name = "POST /v1/admin/accounts/{{account_id}}/credits"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]

[[operations]]
include-path = "/files/{{name}}"
parameters = {{ "path.name" = {file_name!r} }}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(start_service, tmp_path):
    # Each route is tried with wrong keys as well, all from one address.
    service = start_service(engine="null", bad_keys_per_minute=0)
    # A skeleton is a good picture for both fields: no pose has to be found in it.
    picture = tmp_path / "skeleton.png"
    draw_skeleton(find_pose("wave").keypoints * (256, 256, 1), 256, 256).save(picture)
    data_uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    with open_client(service) as http:
        body = {"prompt": "a hero", "ip_image": data_uri, "width": 256, "height": 256}
        request_id, deleted_id = (
            http.post(f"/v1/{SLUG}", json={**body, "webhook_url": "http://127.0.0.1:9/"}).headers[
                "x-request-id"
            ]
            for _ in range(2)
        )
        deliveries = http.get("/v1/webhooks/deliveries").json()["deliveries"]
        (webhook_id,) = [one["webhook_id"] for one in deliveries if one["request_id"] == request_id]
        (image,) = http.get(f"/v2/requests/{request_id}").json()["images"]
        for name in ("kept", "changed", "deleted"):
            answer = http.post("/v1/characters", json={"name": name, "ip_image": data_uri})
            assert answer.status_code == 201
        account_id = http.post("/v1/admin/accounts", json={"name": "other"}).json()["id"]
        key_id = http.post("/v1/keys", json={}).json()["id"]
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        CONFIG.format(
            hooks=str(HOOKS),
            slug=SLUG,
            request_id=request_id,
            deleted_id=deleted_id,
            file_name=image["file_name"],
            webhook_id=webhook_id,
            account_id=account_id,
            key_id=key_id,
        )
    )
    done = subprocess.run(
        [
            *(f"{sys.prefix}/bin/schemathesis", "--config-file", str(config), "run"),
            *(f"{service.url}/openapi.json", "--header", f"x-api-key: {service.key}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "UNDERSTUDY_TEST_PICTURE": str(picture)},
    )
    assert done.returncode == 0, done.stdout[-9000:] + done.stderr[-2000:]
    assert "WARNINGS" not in done.stdout, done.stdout[-6000:]


def test_every_route_is_documented_with_its_errors(http):
    schema = http.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.")
    open_routes = {"/health/live", "/health/ready", "/metrics"}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            if path in open_routes or path.startswith("/files/"):
                continue
            assert operation["security"], (method, path)
            once = {"Idempotency-Key"} if method == "post" else set()
            assert once <= {one["name"] for one in operation.get("parameters", ())}, (method, path)
            assert {"401", "403", "405", "429", "500"} <= set(operation["responses"]), (method, path)
    body = schema["paths"]["/v2/{slug}"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    properties = body["application/json"]["schema"]["properties"]
    assert properties["guidance_scale"]["maximum"] == 15
    assert body["multipart/form-data"]["schema"]["properties"]["ip_image"]["format"] == "binary"


def test_the_documents_of_the_api_load_nothing_from_elsewhere(http):
    assert http.get("/docs").status_code == 404
    assert http.get("/redoc").status_code == 404
