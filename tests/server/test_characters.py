"""Saved characters: what they are saved with, what requests take of them, and how they change."""

from __future__ import annotations

import base64
import io
import time
import uuid
from pathlib import Path

import pytest
from PIL import Image

from service_client import SLUG, open_client, paused_worker, wait_for_end
from understudy.pictures import digest_picture, read_provenance
from understudy.pose.drawing import draw_skeleton
from understudy.pose.library import find_pose

COLOURS = ("red", "green", "blue", "white", "black", "gold", "pink", "navy", "gray")
SMALL = {"width": 256, "height": 256}


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def data_uri(colour: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(colour)).decode()}"


def read_colours(http, urls) -> list[tuple[int, int, int]]:
    """The colour of each of some flat pictures."""
    return [Image.open(io.BytesIO(http.get(url).content)).getpixel((0, 0)) for url in urls]


def colours(*names: str) -> list[tuple[int, int, int]]:
    return [Image.new("RGB", (1, 1), name).getpixel((0, 0)) for name in names]


def refusal(answer) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["code"], answer.json().get("field")


@pytest.fixture
def name() -> str:
    return f"Ann {uuid.uuid4()}"


@pytest.fixture
def save(http, name):
    """Save a character of that name, with pictures of some colours."""

    def save_one(*names: str, **fields):
        pictures = [data_uri(one) for one in names or ["red"]]
        answer = http.post("/v1/characters", json={"name": name, "ip_image": pictures, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return save_one


def read_drawn(http, **fields):
    """What the picture that a request is answered with says of itself."""
    answer = http.post(f"/v1/{SLUG}", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    return read_provenance(answer.content)


def test_a_character_of_one_picture(http, stranger, body, name):
    saved = http.post("/v1/characters", json={"name": name, "ip_image": body["ip_image"], "prompt": "Ann"})
    assert saved.status_code == 201
    assert saved.json()["urls"] == [saved.json()["url"]]
    assert http.get(saved.json()["url"]).status_code == 200
    drawn = read_drawn(http, prompt="a hero", ip_image=f"character:{name}")
    assert drawn["ip_image_sha256"] == digest_picture(http.get(saved.json()["url"]).content)
    assert name in [one["name"] for one in http.get("/v1/characters").json()["characters"]]
    assert http.get(f"/v1/characters/{name}").json() == saved.json()
    again = http.post("/v1/characters", json={"name": name, "ip_image": body["ip_image"]})
    assert refusal(again) == (409, "already_exists", "name")
    assert stranger.get("/v1/characters").json()["characters"] == []
    foreign = stranger.post(f"/v2/{SLUG}", json={**body, "ip_image": f"character:{name}"})
    assert refusal(foreign) == (400, "character_not_found", "ip_image")
    unknown = stranger.get(f"/v1/characters/{'x' * len(name)}")
    for method in ("GET", "PATCH", "DELETE"):
        answer = stranger.request(method, f"/v1/characters/{name}", json={"prompt": "mine"})
        assert (answer.status_code, answer.json()["code"]) == (404, "character_not_found")
        assert answer.json()["error"] == unknown.json()["error"].replace("x" * len(name), name)
    assert http.delete(f"/v1/characters/{name}").status_code == 200
    assert http.delete(f"/v1/characters/{name}").status_code == 404


@pytest.mark.parametrize("fields", [{}, {"poses": ["wave", "run"]}, {"output_format": "webp"}])
def test_all_pictures_are_drawn_from_together(http, save, name, fields):
    saved = save("red", "green", "blue")
    assert read_colours(http, saved["urls"]) == colours("red", "green", "blue")
    assert saved["url"] == saved["urls"][0]
    sent = {**SMALL, "prompt": "a hero", "ip_image": f"character:{name}", **fields}
    request_id = http.post(f"/v2/{SLUG}", json=sent).json()["request_id"]
    assert wait_for_end(http, request_id).status_code == 200
    digests = [digest_picture(http.get(url).content) for url in saved["urls"]]
    images = http.get(f"/v2/requests/{request_id}").json()["images"]
    assert len(images) == len(fields.get("poses", [None]))
    for image in images:
        assert read_provenance(http.get(image["url"]).content)["ip_image_sha256"] == digests


def test_a_form_has_several_files_and_texts(http, name):
    uploaded = http.post("/upload-asset", json={"data_urls": [data_uri("blue")]}).json()["urls"][0]
    fields = [("ip_image", ("a.png", png("red"))), ("ip_image", ("b.png", png("green")))]
    fields += [("ip_image", (None, uploaded)), ("ip_image", (None, data_uri("gold"))), ("name", (None, name))]
    saved = http.post("/v1/characters", files=[*fields, ("prompt", (None, " Ann\n"))])
    assert saved.status_code == 201, saved.text
    assert read_colours(http, saved.json()["urls"]) == colours("red", "green", "blue", "gold")
    assert (saved.json()["prompt"], saved.json()["warnings"]) == ("Ann", [])


def count_files(service) -> int:
    return len(list((service.data_dir / "files").iterdir()))


@pytest.mark.parametrize(
    "pictures",
    [
        [],
        list(map(data_uri, COLOURS)),
        [data_uri("red"), ""],
        [data_uri("red"), None],
        [data_uri("red"), [data_uri("green")]],
        [data_uri("red"), "nonsense"],
        [data_uri("red"), data_uri("green")[:-30]],
        [data_uri("red"), "character:Ann"],
        {"url": data_uri("red")},
        5,
    ],
    ids=lambda pictures: str([str(one)[:25] for one in pictures])[:60] if pictures != 5 else "5",
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_pictures_that_are_none_are_refused_and_nothing_is_kept(http, service, save, name, pictures, method):
    before = save("red")
    files = count_files(service)
    path = "/v1/characters" if method == "POST" else f"/v1/characters/{name}"
    answer = http.request(method, path, json={"name": f"{name} 2", "ip_image": pictures})
    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid_parameter", "invalid_picture")
    assert answer.json()["field"] == "ip_image"
    assert count_files(service) == files
    assert http.get(f"/v1/characters/{name}").json() == before


def test_a_request_itself_has_one_picture(http, body):
    several = http.post(f"/v2/{SLUG}", json={**body, "ip_image": [body["ip_image"]] * 2})
    assert refusal(several) == (400, "invalid_parameter", "ip_image")
    assert "/v1/characters" in several.json()["error"]
    files = [("ip_image", ("a.png", png("red"))), ("ip_image", ("b.png", png("green")))]
    form = http.post(f"/v2/{SLUG}", data={"prompt": "a hero"}, files=files)
    assert refusal(form) == (400, "invalid_parameter", "ip_image")


def test_prompts_that_are_left_out_are_the_character_s(http, save, name):
    save("red", prompt="Ann, red coat", negative_prompt="hat")
    ip_image = f"character:{name}"
    for fields, drawn in (
        ({}, ("Ann, red coat", "hat")),
        ({"prompt": None, "negative_prompt": None}, ("Ann, red coat", "hat")),
        ({"prompt": " "}, ("Ann, red coat", "hat")),
        ({"prompt": "Ann waves"}, ("Ann waves", "hat")),
        ({"negative_prompt": "rain"}, ("Ann, red coat", "rain")),
        ({"prompt": "Ann waves", "negative_prompt": ""}, ("Ann waves", "")),
    ):
        told = read_drawn(http, ip_image=ip_image, **fields)
        assert (told["prompt"], told["negative_prompt"]) == drawn, fields
        told = http.get("/v1/requests?limit=1").json()["requests"][0]
        assert (told["prompt"], told["parameters"]["ip_image"]) == (drawn[0], ip_image)
    assert http.post(f"/v2/{SLUG}?dry_run=true", json={"ip_image": ip_image}).status_code == 200
    form = http.post(
        f"/v1/{SLUG}",
        files={name: (None, str(text)) for name, text in SMALL.items()}
        | {"ip_image": (None, ip_image), "negative_prompt": (None, "")},
    )
    told = read_provenance(form.content)
    assert (told["prompt"], told["negative_prompt"]) == ("Ann, red coat", "")


@pytest.mark.parametrize("path", [f"/v1/{SLUG}", f"/v2/{SLUG}", f"/v2/{SLUG}?dry_run=true"])
def test_without_any_prompt_nothing_is_drawn(http, save, name, path):
    save("red", negative_prompt="hat")
    answer = http.post(path, json={"ip_image": f"character:{name}"})
    assert refusal(answer) == (400, "missing_parameter", "prompt")
    assert name in answer.json()["error"]
    unknown = http.post(path, json={"ip_image": "character:nobody"})
    assert refusal(unknown) == (400, "character_not_found", "ip_image")


def test_a_saved_prompt_is_judged_as_any_other(http, save, name):
    save("red", prompt="nude, 14 years old")
    answer = http.post(f"/v1/{SLUG}", json={**SMALL, "ip_image": f"character:{name}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "content_policy_violation")


def test_a_character_is_renamed_and_takes_new_prompts(http, save, name):
    before = save("red", "green", prompt="Ann", negative_prompt="hat")
    changed = http.patch(f"/v1/characters/{name}", json={"name": f"{name}.2", "prompt": "Bea", "colour": 1})
    assert changed.status_code == 200
    expected = {**before, "name": f"{name}.2", "prompt": "Bea"}
    assert changed.json() == {**expected, "warnings": ["Unknown parameter 'colour' was ignored."]}
    assert http.get(f"/v1/characters/{name}").status_code == 404
    assert http.get(f"/v1/characters/{name}.2").json() == expected
    cleared = http.patch(
        f"/v1/characters/{name}.2", files={"negative_prompt": (None, ""), "prompt": (None, "")}
    )
    assert cleared.json() == {**expected, "prompt": "", "negative_prompt": ""}
    assert http.patch(f"/v1/characters/{name}.2", json={}).json() == cleared.json()
    save("red")
    taken = http.patch(f"/v1/characters/{name}", json={"name": f"{name}.2"})
    assert refusal(taken) == (409, "already_exists", "name")
    for wrong in (
        {"name": ""},
        {"name": "a/b"},
        {"prompt": "x" * 2001},
        {"prompt": 5},
        {"negative_prompt": []},
    ):
        answer = http.patch(f"/v1/characters/{name}", json=wrong)
        assert refusal(answer) == (400, "invalid_parameter", next(iter(wrong)))


def test_its_pictures_are_replaced_but_for_those_that_are_named(http, service, save, name):
    red, green, _ = save("red", "green", "blue")["urls"]
    files = count_files(service)
    kept = http.patch(f"/v1/characters/{name}", json={"ip_image": [green, data_uri("gold"), red, green]})
    assert kept.status_code == 200, kept.text
    urls = kept.json()["urls"]
    assert (urls[0], urls[2], len(urls)) == (green, red, 3)
    assert read_colours(http, urls) == colours("green", "gold", "red")
    assert count_files(service) == files + 1, "those that are kept are not copied"
    added = http.patch(
        f"/v1/characters/{name}",
        files=[("ip_image", (None, urls[1])), ("ip_image", ("pink.png", png("pink")))],
    )
    assert read_colours(http, added.json()["urls"]) == colours("gold", "pink")
    for gone in (red, green):
        assert http.get(gone).status_code == 404
        answer = http.patch(f"/v1/characters/{name}", json={"ip_image": [gone]})
        assert refusal(answer) == (400, "invalid_picture", "ip_image")
    one = http.patch(f"/v1/characters/{name}", json={"ip_image": added.json()["urls"][1]})
    assert read_colours(http, one.json()["urls"]) == colours("pink")
    assert http.delete(f"/v1/characters/{name}").status_code == 200
    assert http.get(one.json()["url"]).status_code == 404


def test_jobs_that_were_accepted_keep_what_they_were_given(start_service):
    """The service is killed after the change, so that all they were given is read after it."""
    service = start_service(engine="null", sweep_interval_seconds=0.05)
    with open_client(service) as http:
        saved = {"name": "Ann", "ip_image": [data_uri("red"), data_uri("green")], "prompt": "Ann"}
        urls = http.post("/v1/characters", json=saved).json()["urls"]
        digests = [digest_picture(http.get(url).content) for url in urls]
        with paused_worker(service):
            sent = {**SMALL, "ip_image": "character:Ann"}
            request_id = http.post(f"/v2/{SLUG}", json=sent).json()["request_id"]
            change = {"name": "Bea", "prompt": "Bea", "ip_image": data_uri("blue")}
            assert http.patch("/v1/characters/Ann", json=change).status_code == 200
            service.kill()
    service.start()
    with open_client(service) as http:
        assert wait_for_end(http, request_id).status_code == 200
        drawn = read_provenance(http.get(http.get(f"/v2/requests/{request_id}").json()["output"]).content)
        assert (drawn["prompt"], drawn["ip_image_sha256"]) == ("Ann", digests)
        drawn = read_drawn(http, ip_image="character:Bea")
        assert (drawn["prompt"], isinstance(drawn["ip_image_sha256"], str)) == ("Bea", True)
    service.stop()


def test_pictures_that_no_job_can_need_are_swept(start_service):
    service = start_service(engine="null", sweep_interval_seconds=0.05, job_deadline_seconds=1)
    files = Path(service.data_dir / "files")
    with open_client(service) as http:
        saved = {"name": "Ann", "ip_image": [data_uri("red"), data_uri("green")]}
        _, green = http.post("/v1/characters", json=saved).json()["urls"]
        http.patch("/v1/characters/Ann", json={"ip_image": green})
        wait_until(lambda: [file.name for file in files.iterdir()] == [green.rpartition("/")[2]])
        http.delete("/v1/characters/Ann")
        wait_until(lambda: not list(files.iterdir()))
    service.stop()


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_change_is_made_once_under_its_key(http, save, name):
    save("red")
    once = {"Idempotency-Key": str(uuid.uuid4())}
    path = f"/v1/characters/{name}"
    change = {"name": f"{name}.2", "ip_image": [data_uri("green"), data_uri("blue")]}
    first, second = (http.patch(path, json=change, headers=once) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert first.json() == second.json()
    assert http.get(f"{path}.2").json() == first.json()
    other = http.patch(path, json={**change, "prompt": "Bea"}, headers=once)
    assert refusal(other)[:2] == (409, "idempotency_key_reused")


def test_a_request_that_is_sent_again_is_answered_though_its_character_has_changed(http, save, name):
    save("red", prompt="Ann", negative_prompt="hat")
    once = {"Idempotency-Key": str(uuid.uuid4())}
    sent = {**SMALL, "ip_image": f"character:{name}"}
    first = http.post(f"/v2/{SLUG}", json=sent, headers=once)
    http.patch(f"/v1/characters/{name}", json={"prompt": "Bea", "negative_prompt": "rain"})
    assert http.post(f"/v2/{SLUG}", json=sent, headers=once).json() == first.json()
    http.delete(f"/v1/characters/{name}")
    assert http.post(f"/v2/{SLUG}", json=sent, headers=once).json() == first.json()
    other = http.post(f"/v2/{SLUG}", json={**sent, "negative_prompt": ""}, headers=once)
    assert refusal(other)[:2] == (409, "idempotency_key_reused")


def test_the_pose_of_a_character_is_its_first_picture_s(http, save, name, body):
    """A flat picture has no pose to be found: it is the drawing of one that must be read."""
    file = io.BytesIO()
    draw_skeleton(find_pose("wave").keypoints * (256, 256, 1), 256, 256).save(file, "PNG")
    skeleton = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    saved = http.post("/v1/characters", json={"name": name, "ip_image": [skeleton, data_uri("red")]})
    assert saved.status_code == 201
    drawn = read_drawn(http, prompt="a hero", ip_image=data_uri("red"), input_image=f"character:{name}")
    assert drawn["input_image_sha256"] == digest_picture(http.get(saved.json()["url"]).content)
    assert isinstance(drawn["ip_image_sha256"], str)


def test_the_embedded_model_draws_from_several(toon_service, picture_path):
    """A second picture changes what is drawn."""
    first = base64.b64encode(picture_path.read_bytes()).decode()
    asked = {**SMALL, "prompt": "young man, red coat", "steps": 1, "seed": 5}
    with open_client(toon_service) as http:
        saved = http.post("/v1/characters", json={"name": "two", "ip_image": [first, data_uri("navy")]})
        assert saved.status_code == 201, saved.text
        drawn = []
        for ip_image in (first, "character:two"):
            sent = http.post(f"/v2/{SLUG}", json={**asked, "ip_image": ip_image}).json()
            assert wait_for_end(http, sent["request_id"], seconds=250).status_code == 200
            url = http.get(sent["response_url"]).json()["output"]
            drawn.append(Image.open(io.BytesIO(http.get(url).content)))
    one, two = drawn
    assert one.size == two.size == (256, 256)
    assert one.tobytes() != two.tobytes()
