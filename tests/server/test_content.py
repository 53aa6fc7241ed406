"""What a service does not draw: how its jobs end, and that nothing of a blocked picture is kept."""

from __future__ import annotations

import base64
import io
import time
from contextlib import suppress

import pytest
from PIL import Image

from engines.tiny_classifier import write_classifier
from service_client import SLUG, make_key, open_client, wait_for_end
from understudy.parameters import MAX_SEED
from understudy.pictures import read_provenance


def test_a_refused_prompt_s_job_ends_before_anything_is_fetched(http, body):
    sent = {**body, "prompt": "n u d e, 14 years old, Mallory", "ip_image": "http://127.0.0.1:9/never.png"}
    answer = http.post(f"/v1/{SLUG}", json=sent)
    told = answer.json()
    assert (answer.status_code, told["status"]) == (422, "FAILED")
    # And not `picture_unreachable`, which it would be.
    assert told["code"] == "content_policy_violation"
    assert told["error"].startswith("content_policy_violation (prompt): ")
    assert "Mallory" not in answer.text
    assert "cost" not in told["metrics"]
    for path in ("v2/requests/{}/status", "v2/requests/{}", "v1/requests/{}"):
        again = http.get("/" + path.format(told["request_id"]))
        assert (again.status_code, again.json()["error"]) == (422, told["error"])


def test_a_negative_prompt_may_name_what_is_unwanted(http, body):
    answer = http.post(f"/v1/{SLUG}", json={**body, "prompt": "a child", "negative_prompt": "nude, sexual"})
    assert answer.status_code == 200


def test_a_negative_prompt_is_judged_with_the_prompt(http, body):
    sent = {**body, "prompt": "teen girl in her room", "negative_prompt": "clothes, clothing, dress"}
    told = http.post(f"/v1/{SLUG}", json=sent).json()
    assert told["error"].startswith("content_policy_violation (prompt): ")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_dry_run_judges_prompts(http, body, version):
    for asked in ({"prompt": "a nude teenager"}, {"prompt": "teen girl", "negative_prompt": "clothing"}):
        answer = http.post(f"/{version}/{SLUG}?dry_run=true", json={**body, **asked})
        assert (answer.status_code, answer.json()["code"]) == (400, "content_policy_violation")
        assert answer.json()["error"].startswith("content_policy_violation (prompt): ")


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_every_file_says_what_made_it(http, body, output_format):
    answer = http.post(f"/v1/{SLUG}", json={**body, "output_format": output_format, "seed": 11})
    provenance = read_provenance(answer.content)
    assert (provenance["prompt"], provenance["model"], provenance["seed"]) == (body["prompt"], SLUG, 11)
    assert (provenance["engine"], len(provenance["ip_image_sha256"])) == ("null", 64)
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in answer.content


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture
def start_judging(start_service, tiny):
    """Start a service that judges pictures."""
    return lambda: start_service(
        engine="null",
        block_pictures=True,
        block_terms="acme",
        classifier_model=tiny.folder,
        classifier_threshold=tiny.threshold,
        sweep_interval_seconds=0.2,
    )


def until(condition):
    """What a condition comes to, as soon as it is true."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_blocked_picture_is_neither_kept_nor_shown(start_judging, tiny, body):
    service = start_judging()
    fine = {**body, "ip_image": _flat(tiny.harmless_colour), "seed": tiny.harmless_colour}
    with open_client(service) as http:
        answer = http.post(f"/v1/{SLUG}", json=fine)
        assert answer.status_code == 200, answer.text
        pictures = [_flat(tiny.harmless_colour), _flat(tiny.blocked_colour)]
        assert http.post("/v1/characters", json={"name": "Ann", "ip_image": pictures}).status_code == 201
        blocked = {
            "output": {**fine, "seed": tiny.blocked_colour},
            "input": {**fine, "ip_image": _flat(tiny.blocked_colour)},
            "input, though it is one of several": {**fine, "ip_image": "character:Ann"},
            "prompt": {**fine, "prompt": "an ACME rocket"},
        }
        for what, sent in blocked.items():
            stage = what.partition(",")[0]
            request_id = http.post(f"/v2/{SLUG}", json=sent).json()["request_id"]
            status = wait_for_end(http, request_id)
            assert (status.status_code, status.json()["code"]) == (422, "content_policy_violation"), stage
            assert status.json()["error"].startswith(f"content_policy_violation ({stage}): ")
            with http.stream("GET", f"/v2/requests/{request_id}/events") as events:
                assert "preview" not in "".join(events.iter_text())
        history = http.get("/v1/requests").json()["requests"]
        assert [len(entry["images"]) for entry in history] == [0, 0, 0, 0, 1]
        # One of these two is white and one is black: the fine one does not stay either.
        sheet = http.post(f"/v1/{SLUG}", json={**fine, "seed": MAX_SEED, "num_images": 2})
        assert sheet.json()["code"] == "content_policy_violation"
        # What was given has no provenance.
        until(lambda: [data for data in _read_files(service) if read_provenance(data)] == [answer.content])


def test_a_given_picture_is_its_account_s_alone_and_when_it_is_blocked_nobody_s(start_judging, tiny, body):
    service = start_judging()
    with (
        open_client(service) as http,
        open_client(service, make_key(service, "stranger")) as stranger,
        open_client(service) as nobody,
    ):
        del nobody.headers["x-api-key"]
        colours = [tiny.harmless_colour, tiny.blocked_colour]
        uploads = http.post("/upload-asset", json={"data_urls": [_flat(colour) for colour in colours]})
        fine, blocked = uploads.json()["file_urls"]
        saved = http.post("/v1/characters", json={"name": "Ann", "ip_image": _flat(tiny.blocked_colour)})
        given = [fine, blocked, saved.json()["url"]]
        for url in given:
            assert [client.get(url).status_code for client in (http, stranger, nobody)] == [200, 404, 401]
            for path, sent in (
                (f"/v1/{SLUG}", {"prompt": "a hero"}),
                ("/v1/characters", {"name": "copy"}),
            ):
                answer = stranger.post(path, json={**sent, "ip_image": url})
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_picture"), path
        sent = {**body, "seed": tiny.harmless_colour}
        drawn = http.post(f"/v1/{SLUG}", json={**sent, "ip_image": fine})
        assert drawn.status_code == 200
        output = http.get(drawn.headers["x-result-url"]).json()["output"]
        before = len(_read_files(service))
        for ip_image in (blocked, "character:Ann"):
            told = http.post(f"/v1/{SLUG}", json={**sent, "ip_image": ip_image}).json()
            assert told["error"].startswith("content_policy_violation (input): ")
        assert [http.get(url).status_code for url in (*given, output)] == [200, 404, 404, 200]
        assert nobody.get(output).status_code == 200
        # The upload is swept; the character's goes with it.
        until(lambda: len(_read_files(service)) == before - 1)
        assert http.delete("/v1/characters/Ann").status_code == 200


def test_of_a_character_s_pictures_only_the_blocked_ones_are_hidden(start_judging, tiny, body):
    fine, blocked = _flat(tiny.harmless_colour), _flat(tiny.blocked_colour)
    # Told apart by more than their colour.
    near = _flat(tiny.harmless_colour ^ 0x010101)
    with open_client(start_judging()) as http:
        saved = http.post("/v1/characters", json={"name": "Ann", "ip_image": [fine, blocked, near]}).json()
        sent = {**body, "seed": tiny.harmless_colour, "ip_image": "character:Ann"}
        told = http.post(f"/v1/{SLUG}", json=sent).json()
        assert told["error"].startswith("content_policy_violation (input): ")
        assert [http.get(url).status_code for url in saved["urls"]] == [200, 404, 200]
        # Without it she is drawn again; with it she is not even a job.
        refused = http.post(f"/v2/{SLUG}", json=sent)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_picture")
        left = {"ip_image": [saved["urls"][0], saved["urls"][2]]}
        assert http.patch("/v1/characters/Ann", json=left).status_code == 200
        assert http.post(f"/v1/{SLUG}", json=sent).status_code == 200


def _read_files(service):
    """The bytes of every file that is kept."""
    found = []
    for file in (service.data_dir / "files").iterdir():
        with suppress(FileNotFoundError):
            found.append(file.read_bytes())
    return found


def _flat(colour: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (colour >> 16, colour >> 8 & 255, colour & 255)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
