"""Both clients against the running service."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pytest
from PIL import Image

from picture_host import serve_picture
from understudy import (
    Conflict,
    InferenceFailed,
    InferenceTimeout,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
)

SLUG = "consistent-character-AI-neolemon-v3"


@pytest.fixture
def live(make_face, service):
    """A client of the running service."""
    return make_face(service.url, api_key=service.key)


@pytest.fixture
def picture(service) -> Path:
    return Path(service.picture_path)


@pytest.fixture
def picture_host(picture):
    with serve_picture(picture) as host:
        yield host


async def test_a_local_picture_in_and_a_picture_out(live, picture, tmp_path):
    job = await live(
        live.client.submit_async(SLUG, prompt="x", ip_image=picture, width=320, height=256, seed=7)
    )
    result = await live(job.wait())
    assert result["status"] == "COMPLETED"
    assert result["seed"] == 7
    assert result["output"] == result["images"][0]["url"]
    (path,) = await live(job.save(tmp_path / "out.png"))
    with Image.open(path) as drawn:
        assert drawn.size == (320, 256)
    assert await live(live.client.job(job.request_id).result()) == result


async def test_a_sheet_is_saved_into_a_folder(live, picture, tmp_path):
    poses = [pose["name"] for pose in await live(live.client.poses())][:3]
    job = await live(live.client.submit_async(SLUG, prompt="x", ip_image=str(picture), poses=poses))
    result = await live(job.wait())
    paths = await live(job.save(tmp_path / "sheet"))
    assert [path.name for path in paths] == [
        f"{number:02}-{pose}.png" for number, pose in enumerate(poses, 1)
    ]
    assert len({*paths}) == 3
    assert all(
        path.stat().st_size == image["file_size"] for path, image in zip(paths, result["images"], strict=True)
    )


async def test_the_synchronous_call_gives_the_file(live, picture):
    answer = await live(live.client.run_sync(SLUG, prompt="x", ip_image=picture.read_bytes(), seed=-1))
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert drawn.size == (1024, 1024)
    assert answer.seed >= 0
    assert (await live(live.client.job(answer.request_id).status()))["status"] == "COMPLETED"


async def test_events_lead_to_the_result(live, picture):
    job = await live(live.client.submit_async(SLUG, prompt="x", ip_image=picture))
    seen = await live.collect(job.events())
    order = ["QUEUED", "PROCESSING", "COMPLETED"]
    assert [event["status"] for event in seen] == sorted((e["status"] for e in seen), key=order.index)
    assert seen[-1] == await live(job.result())


async def test_events_of_an_ended_job_are_its_end(live, picture):
    job = await live(live.client.submit_async(SLUG, prompt="x", ip_image=picture))
    result = await live(job.wait())
    assert await live.collect(job.events()) == [result]


async def test_waiting_and_cancelling(live, picture_host):
    job = await live(live.client.submit_async(SLUG, prompt="x", ip_image=f"{picture_host.url}/slow.png"))
    with pytest.raises(InferenceTimeout) as late:
        await live(job.wait(timeout=0.1))
    assert late.value.request_id == job.request_id
    assert (await live(job.cancel()))["request_id"] == job.request_id
    with pytest.raises(InferenceFailed) as caught:
        await live(job.wait(timeout=60))
    assert caught.value.code == "cancelled"
    assert (await live.collect(job.events()))[-1]["code"] == "cancelled"
    with pytest.raises(Conflict) as twice:
        await live(job.cancel())
    assert twice.value.code == "already_ended"


async def test_a_picture_that_cannot_be_fetched(live, picture_host):
    with pytest.raises(InferenceFailed, match="ip_image") as caught:
        await live(live.client.run(SLUG, prompt="x", ip_image=f"{picture_host.url}/missing.png"))
    assert caught.value.status_body["status"] == "FAILED"
    with pytest.raises(InferenceFailed, match="ip_image"):
        await live(live.client.run_sync(SLUG, prompt="x", ip_image=f"{picture_host.url}/missing.png"))


async def test_what_is_refused(live, make_face, service, picture):
    client = live.client
    with pytest.raises(InvalidRequest) as wrong:
        await live(client.run(SLUG, prompt="x", ip_image=picture, steps=71))
    assert (wrong.value.field, wrong.value.code) == ("steps", "invalid_parameter")
    with pytest.raises(InvalidRequest) as missing:
        await live(client.run(SLUG, ip_image=picture))
    assert (missing.value.field, missing.value.code) == ("prompt", "missing_parameter")
    with pytest.raises(InvalidRequest) as unreadable:
        await live(client.run(SLUG, prompt="x", ip_image=b"no picture"))
    assert (unreadable.value.field, unreadable.value.code) == ("ip_image", "invalid_picture")
    with pytest.raises(NotFound):
        await live(client.run("no-such-model", prompt="x", ip_image=picture))
    with pytest.raises(NotFound):
        await live(client.job(str(uuid.uuid4())).wait())
    stranger = make_face(service.url, api_key="wrong")
    with pytest.raises(NotAuthenticated):
        await stranger(stranger.client.run(SLUG, prompt="x", ip_image=picture))


async def test_the_catalogue_and_the_poses(live):
    models = await live(live.client.models())
    assert SLUG in [model["slug"] for model in models]
    model = await live(live.client.model(SLUG))
    assert model["slug"] == SLUG
    assert model["parameters"]["properties"]["steps"]["maximum"] == 70
    with pytest.raises(NotFound):
        await live(live.client.model("no-such-model"))
    assert len({pose["name"] for pose in await live(live.client.poses())}) >= 40


async def test_the_history_and_its_end(live, picture):
    result = await live(live.client.run(SLUG, prompt="to be deleted", ip_image=picture))
    page = await live(live.client.history(limit=1))
    (entry,) = page["requests"]
    assert entry["request_id"] == result["request_id"]
    assert entry["prompt"] == "to be deleted"
    await live(live.client.delete(result["request_id"]))
    with pytest.raises(NotFound):
        await live(live.client.job(result["request_id"]).status())
    with pytest.raises(NotFound):
        await live(live.client.delete(result["request_id"]))


async def test_an_upload_and_a_saved_character(live, picture):
    url = await live(live.client.upload(picture))
    name = f"hero-{uuid.uuid4().hex[:8]}"
    saved = await live(live.client.save_character(name, url, prompt="a knight"))
    assert saved["name"] == name
    assert name in [character["name"] for character in await live(live.client.characters())]
    assert await live(live.client.character(name)) == saved
    changed = await live(
        live.client.update_character(
            name, new_name=f"{name}.2", ip_image=[saved["url"], picture], negative_prompt="hat"
        )
    )
    name = f"{name}.2"
    assert changed["urls"][0] == saved["url"]
    assert len(changed["urls"]) == 2
    assert (changed["name"], changed["prompt"], changed["negative_prompt"]) == (name, "a knight", "hat")
    result = await live(live.client.run(SLUG, ip_image=f"character:{name}"))
    assert (result["status"], result["prompt"]) == ("COMPLETED", "a knight")
    await live(live.client.delete_character(name))
    with pytest.raises(NotFound):
        await live(live.client.delete_character(name))


async def test_progress_and_previews_of_a_real_model(make_face, toon_service):
    live = make_face(toon_service.url, api_key=toon_service.key)
    job = await live(
        live.client.submit_async(
            SLUG, prompt="x", ip_image=Path(toon_service.picture_path), steps=60, width=256, height=256
        )
    )
    seen = await live.collect(job.events())
    progress = [event["progress"] for event in seen[:-1]]
    assert progress == sorted(progress)
    assert any(0 < value < 1 for value in progress)
    assert any(event.get("preview", "").startswith("data:image/") for event in seen)
    assert seen[-1]["status"] == "COMPLETED"
