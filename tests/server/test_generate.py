"""Asking for pictures, in every way the wire contract knows."""

from __future__ import annotations

import base64
import io
import json
import uuid

import pytest
from PIL import Image

from service_client import SLUG, wait_for_end
from understudy.pictures import read_provenance


def finish(http, body, slug=SLUG):
    submitted = http.post(f"/v2/{slug}", json=body)
    assert submitted.status_code == 200, submitted.text
    assert wait_for_end(http, submitted.json()["request_id"]).status_code == 200
    return http.get(submitted.json()["response_url"]).json()


def test_submit_answers_at_once_with_absolute_addresses(http, service, body):
    answer = http.post(f"/v2/{SLUG}", json=body).json()
    request_id = answer["request_id"]
    assert str(uuid.UUID(request_id)) == request_id
    assert answer["status"] == "QUEUED"
    assert answer["poll_url"] == f"{service.url}/v1/requests/{request_id}"
    assert answer["status_url"] == f"{service.url}/v2/requests/{request_id}/status"
    assert answer["response_url"] == f"{service.url}/v2/requests/{request_id}"


def test_a_result_has_every_field_of_the_contract(http, service, body):
    result = finish(http, body)
    image = result["images"][0]
    assert result["status"] == "COMPLETED"
    assert result["output"] == image["url"] == f"{service.url}/files/{image['file_name']}"
    assert (result["seed"], image["seed"], result["prompt"], result["warnings"]) == (7, 7, body["prompt"], [])
    assert {"inference_time", "queue_time", "total_time", "cost", "retry_count"} <= set(result["metrics"])
    file = http.get(image["url"], headers={"x-api-key": ""})
    assert (file.status_code, file.headers["content-type"]) == (200, "image/png")
    assert len(file.content) == image["file_size"]
    assert Image.open(io.BytesIO(file.content)).size == (1024, 1024)
    assert http.get(f"/v1/requests/{result['request_id']}").json() == result


def test_the_status_route_carries_no_pictures(http, body):
    request_id = finish(http, body)["request_id"]
    status = http.get(f"/v2/requests/{request_id}/status").json()
    assert (status["status"], status["progress"], status["queue_position"]) == ("COMPLETED", 1.0, None)
    assert status["metrics"]["inference_time"] >= 0
    assert not {"output", "images"} & set(status)


def test_v1_waits_and_answers_with_the_picture(http, body):
    answer = http.post(f"/v1/{SLUG}", json={**body, "width": 300, "height": 500})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(answer.content)).size == (300, 500)
    assert answer.headers["x-seed-value"] == "7"
    assert float(answer.headers["x-generation-time"]) >= 0
    assert float(answer.headers["x-cost"]) == 0
    assert http.get(f"/v1/requests/{answer.headers['x-request-id']}").json()["status"] == "COMPLETED"


def test_the_same_request_gives_the_same_bytes(http, body):
    first, second = (http.post(f"/v1/{SLUG}", json=body).content for _ in range(2))
    assert first == second
    assert first != http.post(f"/v1/{SLUG}", json={**body, "seed": 8}).content


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
def test_every_output_format_carries_its_provenance(http, body, format_):
    answer = http.post(f"/v1/{SLUG}", json={**body, "output_format": format_})
    assert answer.headers["content-type"] == f"image/{format_}"
    assert Image.open(io.BytesIO(answer.content)).format == format_.upper()
    provenance = read_provenance(answer.content)
    assert provenance["prompt"] == body["prompt"]
    assert (provenance["seed"], provenance["engine"]) == (7, "null")
    assert "ip_image" not in provenance
    assert len(provenance["ip_image_sha256"]) == 64


def test_pictures_may_be_given_in_every_way(http, service, body, picture_path):
    data = picture_path.read_bytes()
    bare = base64.b64encode(data).decode()
    uploaded = http.post("/upload-asset", json={"data_urls": [body["ip_image"]]}).json()
    for given in (bare, f"  {body['ip_image']}\n", uploaded["file_urls"][0], f" {uploaded['urls'][0]} "):
        assert http.post(f"/v1/{SLUG}", json={**body, "ip_image": given}).status_code == 200
    form = http.post(
        f"/v1/{SLUG}",
        data={"prompt": "a hero", "steps": "3", "pose": "wave", "seed": "5"},
        files={"ip_image": ("hero.png", data, "image/png"), "input_image": ("pose.png", data, "image/png")},
    )
    assert form.status_code == 400, "a pose and an input_image exclude each other"
    form = http.post(
        f"/v2/{SLUG}",
        data={"prompt": "a hero", "steps": "3", "poses": json.dumps(["wave", "run"]), "seed": "5"},
        files={"ip_image": ("hero.png", data, "image/png")},
    )
    assert form.status_code == 200, form.text
    wait_for_end(http, form.json()["request_id"])
    result = http.get(form.json()["response_url"]).json()
    assert len(result["images"]) == 2
    assert result["seed"] == 5


def test_a_picture_is_fetched_after_the_job_is_accepted(http, service, body):
    uploaded = http.post("/upload-asset", json={"data_urls": [body["ip_image"]]}).json()["urls"][0]
    # Under another name of the host it is no longer known as ours, and goes through the fetcher.
    elsewhere = uploaded.replace("127.0.0.1", "127.0.0.2")
    submitted = http.post(f"/v2/{SLUG}", json={**body, "ip_image": elsewhere})
    assert submitted.status_code == 200
    failed = wait_for_end(http, submitted.json()["request_id"])
    assert failed.status_code == 422
    assert failed.json()["code"] == "picture_refused"
    assert "ip_image" in failed.json()["error"]
    assert "cost" not in failed.json()["metrics"]


def test_seed_minus_one_draws_a_seed_and_tells_it(http, body):
    seeds = {finish(http, {**body, "seed": -1})["seed"] for _ in range(2)}
    assert len(seeds) == 2
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_the_reference_seed_needs_more_than_32_bits(http, body):
    without = {name: value for name, value in body.items() if name != "seed"}
    assert finish(http, without)["seed"] == 4898558797


def test_several_pictures_count_their_seeds_up(http, body):
    result = finish(http, {**body, "num_images": 3})
    assert [image["seed"] for image in result["images"]] == [7, 8, 9]
    assert len({image["file_name"] for image in result["images"]}) == 3


def test_a_sheet_has_a_picture_for_each_pose(http, body):
    keypoints = [[0.5, 0.1 + index * 0.04] for index in range(18)]
    keypoints[16] = None
    result = finish(http, {**body, "poses": ["wave", "Run", keypoints], "output_format": "webp"})
    assert [image["seed"] for image in result["images"]] == [7, 7, 7]
    assert all(image["content_type"] == "image/webp" for image in result["images"])


def test_unknown_fields_are_named_in_warnings(http, body):
    answer = http.post(f"/v2/{SLUG}", json={**body, "lora": "x", "scheduler": "y"})
    assert answer.status_code == 200
    assert [word in " ".join(answer.json()["warnings"]) for word in ("lora", "scheduler")] == [True, True]


def test_null_means_not_given(http, body):
    assert finish(http, {**body, "negative_prompt": None, "steps": None, "input_image": None})["seed"] == 7


def test_what_a_query_asks_in_vain_is_named_in_warnings(http, body):
    answer = http.post(f"/v2/{SLUG}?dryrun=true", json={**body, "extra": 1})
    warnings = ["Unknown parameter 'extra' was ignored.", "Unknown query parameter 'dryrun' was ignored."]
    assert answer.json()["warnings"] == warnings


def test_a_dry_run_makes_no_job(http, body):
    before = http.get("/v1/requests").json()["requests"]
    for version in ("v1", "v2"):
        answer = http.post(f"/{version}/{SLUG}?dry_run=true", json={**body, "num_images": 3, "extra": 1})
        assert answer.status_code == 200
        assert answer.json()["pictures"] == 3
        assert answer.json()["dry_run"] is True
        assert len(answer.json()["warnings"]) == 1
    assert http.post(f"/v2/{SLUG}?dry_run=true", json={**body, "steps": 0}).status_code == 400
    assert http.get("/v1/requests").json()["requests"] == before


def test_the_engine_has_a_slug_of_its_own(http, body):
    assert finish(http, body, "understudy-null")["status"] == "COMPLETED"
    models = http.get("/v1/models").json()["models"]
    assert [model["slug"] for model in models] == [SLUG, "understudy-null"]
    parameters = http.get(f"/v1/models/{SLUG}").json()["parameters"]
    assert set(parameters["required"]) == {"ip_image", "prompt"}
    assert parameters["properties"]["steps"]["maximum"] == 70


def test_bearer_is_taken_as_well(http, service, body):
    answer = http.get("/v1/models", headers={"x-api-key": "", "authorization": f"Bearer {service.key}"})
    assert answer.status_code == 200


def test_v1_tells_in_headers_what_a_picture_cannot(http, body):
    answer = http.post(
        f"/v1/{SLUG}", json={**body, "poses": ["wave", "run"], "guidence_scale": 3, "\u00fc": 1}
    )
    warnings = json.loads(answer.headers["x-warnings"])
    assert "guidence_scale" in warnings[0]
    assert "first of 2" in warnings[-1]
    result = http.get(answer.headers["x-result-url"]).json()
    assert [image["asked_pose"] for image in result["images"]] == ["wave", "run"]
    assert "x-warnings" not in http.post(f"/v1/{SLUG}", json=body).headers


def test_files_answer_head_and_ranges(http, body):
    result = finish(http, body)
    head = http.head(result["output"])
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == result["images"][0]["file_size"]
    part = http.get(result["output"], headers={"range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("poses", [["wave", "run"], ["wave, run"], ['["wave", "run"]']])
def test_a_form_takes_poses_as_people_write_them(http, picture_path, poses):
    files = {"ip_image": picture_path.read_bytes()}
    submitted = http.post(f"/v2/{SLUG}", data={"prompt": "a hero", "poses": poses}, files=files)
    assert submitted.status_code == 200, submitted.text
    request_id = submitted.json()["request_id"]
    wait_for_end(http, request_id)
    images = http.get(f"/v2/requests/{request_id}").json()["images"]
    assert [image["asked_pose"] for image in images] == ["wave", "run"]
