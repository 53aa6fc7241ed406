"""Several engines behind one contract: each has a slug, and all that is told of one goes by it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import httpx2
import pytest
from PIL import Image

from running_service import RunningService
from service_client import SLUG, open_client

NULL, TOON = "understudy-null", "understudy-toon"


@pytest.fixture(scope="module")
def several(start_service) -> RunningService:
    """A service with the null engine and the embedded one, of which its worker keeps one."""
    return start_service(engine="null", engines="toon", credits="on")


@pytest.fixture
def http(several: RunningService) -> Iterator[httpx2.Client]:
    with open_client(several) as client:
        # An engine takes its time to load where every core is busy.
        client.timeout = 240
        (account,) = client.get("/v1/admin/accounts").json()["accounts"]
        client.post(f"/v1/admin/accounts/{account['id']}/credits", json={"credits": 10})
        yield client


def read_engine(picture: bytes) -> str:
    """What drew a picture, as its file tells."""
    return json.loads(Image.open(io.BytesIO(picture)).info["understudy"])["engine"]


def test_each_engine_is_a_model_and_the_first_one_is_the_reference(http):
    models = {model["slug"]: model for model in http.get("/v1/models").json()["models"]}
    assert {slug: (model["engine"], model["price"]) for slug, model in models.items()} == {
        SLUG: ("null", 0.002),
        NULL: ("null", 0.002),
        TOON: ("toon", 0.02),
    }
    assert http.get(f"/v1/models/{TOON}").json() == models[TOON]
    missing = http.get("/v1/models/understudy-sdxl")
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")
    assert TOON in missing.json()["error"]
    paths = http.get("/openapi.json").json()["paths"]
    for path in ("/v1/{slug}", "/v2/{slug}"):
        (slug,) = (one for one in paths[path]["post"]["parameters"] if one["name"] == "slug")
        assert slug["schema"]["examples"] == list(models)


def test_a_slug_draws_with_its_engine_at_its_price(http, body):
    small = {**body, "width": 512, "height": 512, "steps": 2}
    dry = http.post(f"/v2/{TOON}?dry_run=true", json=small).json()
    assert (dry["model"], dry["cost"]) == (TOON, 0.01)
    drawn = {slug: http.post(f"/v1/{slug}", json=small) for slug in (NULL, TOON, SLUG)}
    assert {slug: answer.status_code for slug, answer in drawn.items()} == dict.fromkeys(drawn, 200)
    assert {slug: read_engine(answer.content) for slug, answer in drawn.items()} == {
        NULL: "null",
        TOON: "toon",
        SLUG: "null",
    }
    assert {slug: float(answer.headers["x-cost"]) for slug, answer in drawn.items()} == {
        NULL: 0.001,
        TOON: 0.01,
        SLUG: 0.001,
    }
    (worker,) = http.get("/health/ready").json()["workers"]
    assert (worker["resident"], worker["engine"]) == (["null"], "null")


def test_who_waits_for_an_engine_is_told_that_it_loads(http, body):
    http.post(f"/v1/{NULL}", json=body)
    asked = http.post(f"/v2/{TOON}", json={**body, "width": 256, "height": 256, "steps": 1}).json()
    with http.stream("GET", f"/v2/requests/{asked['request_id']}/events") as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    stages = [event.get("stage") for event in events[:-1]]
    assert "loading" in stages
    assert events[-1]["status"] == "COMPLETED"
    assert {event["status"] for event in events if event.get("stage") == "loading"} == {"QUEUED"}
    assert http.get("/health/ready").json()["workers"][0]["resident"] == ["toon"]
    assert re.search(r'understudy_engine_loads_total{engine="toon"} [1-9]', http.get("/metrics").text)
