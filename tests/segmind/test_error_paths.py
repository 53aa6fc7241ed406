"""Every way a call can end, seen through the official SDK."""

from __future__ import annotations

import json
import uuid

import pytest

PRELUDE = """
import json
from segmind import AsyncJob, InferenceFailed, InferenceTimeout, SegmindClient, SegmindError

SLUG = "consistent-character-AI-neolemon-v3"

def report(**fields):
    print(json.dumps(fields))

def report_error(call):
    try:
        call()
    except SegmindError as error:
        report(kind=type(error).__name__, status=error.status, detail=error.detail)
    else:
        report(kind=None)

client = SegmindClient(base_url=BASE_URL)
"""


@pytest.fixture
def reports(official):
    """Runs a program with the official SDK and returns what it reported."""

    def run(program: str, **names: object) -> list[dict]:
        constants = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        return [json.loads(line) for line in official(PRELUDE + constants + program).splitlines()]

    return run


def test_a_key_that_is_wrong_or_missing(reports):
    seen = reports(
        """
import os
stranger = SegmindClient(api_key="wrong", base_url=BASE_URL)
report_error(lambda: stranger.run(SLUG, prompt="x", ip_image="x"))
report_error(lambda: stranger.run_sync(SLUG, prompt="x", ip_image="x"))
del os.environ["SEGMIND_API_KEY"]
report_error(lambda: SegmindClient(base_url=BASE_URL).run(SLUG, prompt="x", ip_image="x"))
"""
    )
    assert [(error["kind"], error["status"]) for error in seen] == [("SegmindError", 401)] * 3
    assert all(error["detail"] for error in seen)
    assert all("wrong" not in error["detail"].split() for error in seen)


def test_a_model_that_does_not_exist(reports):
    seen = reports(
        """
report_error(lambda: client.run("no-such-model", prompt="x", ip_image="x"))
report_error(lambda: client.run_sync("no-such-model", prompt="x", ip_image="x"))
"""
    )
    assert [error["status"] for error in seen] == [404, 404]
    assert all("no-such-model" in error["detail"] for error in seen)


def test_parameters_that_are_wrong(reports, picture_host):
    seen = reports(
        """
for wrong in ({"steps": 0}, {"guidance_scale": 99}, {"prompt": ""}, {"ip_image": "no picture"}, {"width": 8}):
    parameters = {"prompt": "x", "ip_image": URL} | wrong
    report_error(lambda: client.submit_async(SLUG, **parameters))
    report_error(lambda: client.run_sync(SLUG, **parameters))
report_error(lambda: client.submit_async(SLUG, ip_image=URL))
""",
        URL=f"{picture_host.url}/p.png",
    )
    assert [error["status"] for error in seen] == [400] * 11
    fields = ["steps", "guidance_scale", "prompt", "ip_image", "width"]
    assert all(field in error["detail"] for field, error in zip(fields, seen[0:10:2], strict=True))
    assert [error["detail"] for error in seen[0:10:2]] == [error["detail"] for error in seen[1:10:2]]
    assert "prompt" in seen[-1]["detail"]


def test_a_job_that_fails(reports, picture_host):
    error, status, result, sync = reports(
        """
job = client.submit_async(SLUG, prompt="x", ip_image=URL)
try:
    job.wait(timeout=60, interval=0.05)
except InferenceFailed as error:
    report(detail=error.detail, body=error.status_body)
report(**job.status())
report(**job.result())
report_error(lambda: client.run_sync(SLUG, prompt="x", ip_image=URL))
""",
        URL=f"{picture_host.url}/missing.png",
    )
    assert "ip_image" in error["detail"]
    assert error["body"]["status"] == "FAILED"
    assert error["body"]["error"] == error["detail"]
    assert status == result == error["body"]
    assert "cost" not in status["metrics"]
    assert (sync["kind"], sync["status"]) == ("SegmindError", 422)
    assert "ip_image" in sync["detail"]


def test_a_request_that_does_not_exist(reports):
    unknown = str(uuid.uuid4())
    seen = reports(
        """
at = BASE_URL.removesuffix("/v1") + "/v2/requests/" + ID
job = AsyncJob(ID, at + "/status", at, {}, client)
report_error(job.status)
report_error(job.result)
report_error(job.wait)
""",
        ID=unknown,
    )
    expected = {"kind": "SegmindError", "status": 404, "detail": f"Request {unknown} not found"}
    assert seen == [expected] * 3


def test_a_wait_that_is_too_short_and_a_cancel(reports, picture_host):
    submitted, timeout, cancelled, error, again = reports(
        """
job = client.submit_async(SLUG, prompt="x", ip_image=URL)
report(**job.submit_response)
try:
    job.wait(timeout=0.2, interval=0.05)
except InferenceTimeout as error:
    report(request_id=error.request_id, elapsed_s=error.elapsed_s)
answer = client._client.delete(job.response_url)
report(http=answer.status_code, **answer.json())
try:
    job.wait(timeout=60, interval=0.05)
except InferenceFailed as error:
    report(detail=error.detail, code=error.status_body["code"], status=error.status_body["status"])
report_error(lambda: client._request("DELETE", job.response_url))
""",
        URL=f"{picture_host.url}/slow.png",
    )
    assert submitted["status"] == "QUEUED"
    assert timeout["request_id"] == submitted["request_id"] == cancelled["request_id"]
    assert timeout["elapsed_s"] >= 0.2
    assert cancelled["http"] == 200
    assert (error["status"], error["code"]) == ("FAILED", "cancelled")
    assert error["detail"]
    assert (again["kind"], again["status"]) == ("SegmindError", 409)


def test_the_synchronous_call(reports, picture_host):
    (answer,) = reports(
        """
response = client.run_sync(SLUG, prompt="x", ip_image=URL, width=320, height=256, seed=7)
report(start=response.content[:8].hex(), **response.headers)
""",
        URL=f" {picture_host.url}/p.png",
    )
    assert bytes.fromhex(answer["start"]) == b"\x89PNG\r\n\x1a\n"
    assert answer["content-type"] == "image/png"
    assert answer["x-seed-value"] == "7"
    assert len(answer["x-request-id"]) == 36
    assert float(answer["x-generation-time"]) >= 0


def test_an_upload_is_a_picture_for_any_call(reports, service):
    upload, result = reports(
        """
from segmind.files import Files
Files.STORAGE_BASE_URL = BASE_URL.removesuffix("/v1")
answer = client.files.upload([PATH, PATH])
report(**answer)
report(**client.run(SLUG, prompt="x", ip_image=answer["file_urls"][0]))
""",
        PATH=str(service.picture_path),
    )
    assert len(upload["file_urls"]) == 2
    assert upload["urls"] == upload["file_urls"]
    assert all(url.startswith(service.url) for url in upload["file_urls"])
    assert upload["message"]
    assert result["status"] == "COMPLETED"
