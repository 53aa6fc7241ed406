"""Every error: JSON, a stable code, the field named, nothing leaked."""

from __future__ import annotations

import base64
import io
import json
import uuid

import httpx2
import pytest
from PIL import Image

from service_client import SLUG, open_client


def check(answer, status, code, field=None):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["code"] == code
    assert isinstance(body["error"], str)
    assert len(body["error"]) > 10
    assert body.get("field") == field
    if field is not None:
        assert field in body["error"]
    assert body["request_id"]
    for leak in ("Traceback", "site-packages", "sqlalchemy", 'File "'):
        assert leak not in answer.text
    return body


def test_bodies_that_cannot_be_read(http):
    headers = {"content-type": "application/json"}
    for content in (
        b"",
        b"{",
        b"[1]",
        b'"x"',
        b"null",
        b"[" * 100_000,
        b'{"prompt": "\\ud800"}',
        b"\xff\xfe",
    ):
        check(http.post(f"/v2/{SLUG}", content=content, headers=headers), 400, "invalid_request")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    broken = http.post(f"/v2/{SLUG}", content=b"--x\r\nbro ken: x\r\n\r\n", headers=headers)
    check(broken, 400, "invalid_request")
    cut_off = http.post(f"/v2/{SLUG}", content=b"--x\r\nbroken", headers=headers)
    check(cut_off, 400, "invalid_request")
    no_boundary = http.post(f"/v2/{SLUG}", content=b"x", headers={"content-type": "multipart/form-data"})
    check(no_boundary, 400, "invalid_request")


@pytest.mark.parametrize("name", ["ip_image", "prompt"])
def test_required_parameters(http, body, name):
    without = {key: value for key, value in body.items() if key != name}
    for given in (without, {**without, name: None}):
        check(http.post(f"/v2/{SLUG}", json=given), 400, "missing_parameter", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", "   "),
        ("prompt", "x" * 2001),
        ("prompt", 5),
        ("prompt", ["x"]),
        ("prompt", "a\x00b"),
        ("guidance_scale", 0.99),
        ("guidance_scale", 15.1),
        ("guidance_scale", "much"),
        ("guidance_scale", True),
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("steps", 0),
        ("steps", 71),
        ("steps", 2.5),
        ("steps", True),
        ("steps", 10**40),
        ("width", 255),
        ("width", 2049),
        ("height", -1),
        ("seed", -2),
        ("seed", 2**53),
        ("negative_prompt", 1),
        ("negative_prompt", "x" * 2001),
        ("num_images", 9),
        ("candidates", 0),
        ("ip_scale", 1.6),
        ("pose_scale", -0.1),
        ("output_format", "bmp"),
        ("pose", "no such pose"),
        ("pose", []),
        ("pose", [[0.1, 0.2]] * 17),
        ("pose", [[0.1]] * 18),
        ("pose", [["a", "b"]] * 18),
        ("pose", {"name": "wave"}),
        ("poses", []),
        ("poses", ["wave"] * 25),
        ("poses", ["wave", "no such pose"]),
        ("poses", "wave"),
    ],
)
def test_parameters_out_of_range(http, body, name, value):
    content = json.dumps({**body, name: value})
    answer = http.post(f"/v2/{SLUG}", content=content, headers={"content-type": "application/json"})
    check(answer, 400, "invalid_parameter", name)


def test_poses_exclude_each_other(http, body):
    both = {**body, "pose": "wave", "input_image": body["ip_image"]}
    check(http.post(f"/v2/{SLUG}", json=both), 400, "invalid_parameter", "pose")
    many = {**body, "poses": ["wave"] * 10, "num_images": 3}
    check(http.post(f"/v2/{SLUG}", json=many), 400, "invalid_parameter", "num_images")


@pytest.mark.parametrize(
    "picture",
    [
        "hello",
        "data:image/png;base64,AAAA",
        "data:text/html,<b>hi</b>",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        base64.b64encode(b"GIF89a").decode(),
        "/files/../understudy.sqlite3",
    ],
)
@pytest.mark.parametrize("name", ["ip_image", "input_image"])
def test_unreadable_pictures_are_refused_at_submit(http, body, name, picture):
    check(http.post(f"/v2/{SLUG}", json={**body, name: picture}), 400, "invalid_picture", name)


def test_a_file_of_ours_that_does_not_exist(http, service, body):
    gone = f"{service.url}/files/{uuid.uuid4().hex}.png"
    check(http.post(f"/v2/{SLUG}", json={**body, "ip_image": gone}), 400, "invalid_picture", "ip_image")


def test_a_picture_that_is_no_picture_in_a_form(http):
    answer = http.post(
        f"/v2/{SLUG}", data={"prompt": "a hero"}, files={"ip_image": ("x.png", b"nonsense", "image/png")}
    )
    check(answer, 400, "invalid_picture", "ip_image")


def test_pictures_that_are_too_large(http, body):
    large = io.BytesIO()
    Image.new("1", (9000, 9000)).save(large, "PNG")
    bomb = base64.b64encode(large.getvalue()).decode()
    check(http.post(f"/v2/{SLUG}", json={**body, "ip_image": bomb}), 413, "too_large", "ip_image")
    heavy = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20_000_001)).decode()
    check(http.post(f"/v2/{SLUG}", json={**body, "ip_image": heavy}), 413, "too_large", "ip_image")


def test_a_body_that_is_too_large(http):
    content = b'{"prompt": "' + b"x" * 64_000_001 + b'"}'
    answer = http.post(f"/v2/{SLUG}", content=content, headers={"content-type": "application/json"})
    check(answer, 413, "too_large")


def test_keys(http, service, body):
    with httpx2.Client(base_url=service.url) as nobody:
        check(nobody.post(f"/v2/{SLUG}", json=body), 401, "not_authenticated")
        check(nobody.get("/v1/models"), 401, "not_authenticated")
        check(nobody.get("/v1/models", headers={"x-api-key": "us_wrong"}), 401, "not_authenticated")
        check(nobody.get("/v1/models", headers={"authorization": "Bearer x"}), 401, "not_authenticated")
        check(nobody.get("/v1/models", headers={"authorization": "Basic eDp5"}), 401, "not_authenticated")
        check(nobody.get("/v1/models", headers={"x-api-key": "é".encode()}), 401, "not_authenticated")


def test_things_that_do_not_exist(http, body):
    check(http.post("/v2/no-such-model", json=body), 404, "model_not_found")
    check(http.post("/v1/no-such-model", json=body), 404, "model_not_found")
    check(http.get("/v1/models/no-such-model"), 404, "model_not_found")
    check(http.get("/v9/nothing"), 404, "route_not_found")
    check(http.get("/files/nothing.png"), 404, "file_not_found")
    check(http.get("/files/..%2funderstudy.sqlite3"), 404, "route_not_found")
    for route in ("/v2/requests/{}/status", "/v2/requests/{}", "/v1/requests/{}", "/v2/requests/{}/events"):
        unknown = str(uuid.uuid4())
        checked = check(http.get(route.format(unknown)), 404, "not_found")
        assert checked["error"] == f"Request {unknown} not found"
    check(http.delete(f"/v2/requests/{uuid.uuid4()}"), 404, "not_found")
    check(http.put(f"/v2/requests/{uuid.uuid4()}/cancel"), 404, "not_found")
    check(http.delete(f"/v1/requests/{uuid.uuid4()}"), 404, "not_found")


def test_wrong_verbs(http):
    for method, route, allowed in (
        ("GET", f"/v2/{SLUG}", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/health/live", "GET"),
        ("PUT", "/v1/characters", "GET, POST"),
        ("POST", "/v2/requests/x", "DELETE, GET"),
    ):
        answer = http.request(method, route)
        check(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


def test_wrong_content_types(http, body):
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        answer = http.post(f"/v2/{SLUG}", content=json.dumps(body), headers={"content-type": content_type})
        check(answer, 406, "unsupported_content_type")
    check(
        http.post("/upload-asset", content="x", headers={"content-type": "text/plain"}),
        406,
        "unsupported_content_type",
    )


def test_uploads(http, body):
    for data_urls in (None, [], "x", [1], [body["ip_image"]] * 17):
        answer = http.post("/upload-asset", json={"data_urls": data_urls})
        check(answer, 400, "invalid_parameter", "data_urls")
    for data_urls in (["x"], ["http://example.org/a.png"], [body["ip_image"], "x"]):
        answer = http.post("/upload-asset", json={"data_urls": data_urls})
        check(answer, 400, "invalid_picture", "data_urls")


def test_cancel_after_the_end(http, body):
    request_id = http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"]
    check(http.delete(f"/v2/requests/{request_id}"), 409, "already_ended")


def test_another_account_s_request_does_not_exist(http, stranger, body):
    request_id = http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"]
    for route in ("/v2/requests/{}/status", "/v2/requests/{}", "/v1/requests/{}", "/v2/requests/{}/events"):
        check(stranger.get(route.format(request_id)), 404, "not_found")
    check(stranger.delete(f"/v2/requests/{request_id}"), 404, "not_found")
    check(stranger.delete(f"/v1/requests/{request_id}"), 404, "not_found")
    assert http.get(f"/v2/requests/{request_id}").status_code == 200


def test_a_failed_job_is_422_on_v1_too(http, body):
    answer = http.post(f"/v1/{SLUG}", json={**body, "ip_image": "http://127.0.0.1:9/a.png"})
    failed = answer.json()
    assert (answer.status_code, failed["status"], failed["code"]) == (422, "FAILED", "picture_unreachable")
    assert "ip_image" in failed["error"]
    assert answer.headers["x-request-id"] == failed["request_id"]


def test_a_full_queue(start_service, body):
    # The engine takes seconds to load, so that what is submitted stays in the queue.
    service = start_service(engine="toon", queue_limit=1, worker_idle_seconds=60)
    with open_client(service) as http:
        answers = [http.post(f"/v2/{SLUG}", json={**body, "steps": 70}) for _ in range(4)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        check(refused[0], 429, "queue_full")
        assert int(refused[0].headers["retry-after"]) > 0
    service.kill()


def test_a_deadline(start_service, body):
    service = start_service(engine="toon", sync_deadline_seconds=0.2, worker_idle_seconds=60)
    with open_client(service) as http:
        answer = http.post(f"/v1/{SLUG}", json={**body, "steps": 70})
        late = check(answer, 504, "deadline_exceeded")
        assert answer.headers["x-request-id"] == late["request_id"]
        assert http.get(f"/v2/requests/{late['request_id']}/status").status_code == 200
    service.kill()


def test_a_body_that_goes_on(http):
    def endless():
        for _ in range(70):
            yield bytes(1_000_000)

    answer = http.post(f"/v2/{SLUG}", content=endless(), headers={"content-type": "application/json"})
    check(answer, 413, "too_large")


@pytest.mark.parametrize("request_id", ["%F1%B4%AA%AF", "%0d%0aSet-Cookie:x", "%00", "%F0%9F%98%80"])
def test_ids_that_no_header_can_carry(http, request_id):
    for method, route in (("DELETE", ""), ("PUT", "/cancel"), ("GET", ""), ("GET", "/status")):
        answer = http.request(method, f"/v2/requests/{request_id}{route}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("url", ["http://[::1", "http://[", "http://ex\u2100mple.com/a.png", "http://a b/c"])
def test_urls_that_cannot_be_parsed(http, body, url):
    answer = http.post(f"/v1/{SLUG}", json={**body, "ip_image": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "picture_refused")
    assert "ip_image" in answer.json()["error"]
    saved = http.post("/v1/characters", json={"name": "odd", "ip_image": url})
    check(saved, 400, "picture_refused", "ip_image")


@pytest.mark.parametrize(
    ("charset", "code", "field"),
    [
        # Python's codec for what no codec should read.
        ("undefined", "invalid_request", None),
        ("punycode", "missing_parameter", "ip_image"),
        ("no-such", "missing_parameter", "ip_image"),
        ("utf-16", "missing_parameter", "ip_image"),
    ],
)
def test_forms_in_odd_encodings(http, charset, code, field):
    content = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--x--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = http.post(f"/v2/{SLUG}", content=content, headers=headers)
    check(answer, 400, code, field)


def test_forms_that_are_too_much(http, picture_path):
    many = {f"field{number}": "x" for number in range(70)}
    answer = http.post(f"/v2/{SLUG}", data=many, files={"ip_image": picture_path.read_bytes()})
    check(answer, 400, "invalid_request")
    assert "64 fields" in answer.json()["error"]
    heavy = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(31_000_000)).decode()
    answer = http.post(f"/v2/{SLUG}", data={"prompt": "x", "ip_image": heavy}, files={"other": b"x"})
    check(answer, 413, "too_large", "ip_image")
