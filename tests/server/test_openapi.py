"""The served OpenAPI tells the truth: Schemathesis asks every route what it says it answers."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(service, tmp_path):
    config = tmp_path / "schemathesis.toml"
    # Whether a string is a picture, a known pose or an existing model no schema can say: such
    # values are rightly refused with 400 or 404.
    config.write_text(
        "[checks]\n"
        'positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404", "409", "422"]\n'
        'negative_data_rejection.expected-statuses = ["400", "401", "404", "405", "406", "413", "422"]\n'
    )
    done = subprocess.run(
        [
            *(f"{sys.prefix}/bin/schemathesis", "--config-file", str(config), "run"),
            *(f"{service.url}/openapi.json", "--header", f"x-api-key: {service.key}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
            *("--exclude-path", "/v2/requests/{request_id}/events", "--request-timeout", "30"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


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
            assert {"401", "405", "500"} <= set(operation["responses"]), (method, path)
    body = schema["paths"]["/v2/{slug}"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    properties = body["application/json"]["schema"]["properties"]
    assert properties["guidance_scale"]["maximum"] == 15
    assert body["multipart/form-data"]["schema"]["properties"]["ip_image"]["format"] == "binary"


def test_the_documents_of_the_api_load_nothing_from_elsewhere(http):
    assert http.get("/docs").status_code == 404
    assert http.get("/redoc").status_code == 404
