"""Several pictures of one job, each as soon as it can be had."""

from __future__ import annotations

import json

import pytest

from understudy import InferenceFailed, InvalidRequest, NotFound

from .conftest import ID, Reply, completed, state

EVENTS = f"/v2/requests/{ID}/events"

pytestmark = pytest.mark.usefixtures("quick_backoff")


def waiting(index: int) -> dict:
    return {"index": index, "state": "waiting", "step": 0, "steps": 4, "asked_pose": "wave"}


def drawn(scripted, index: int) -> dict:
    there = {"state": "done", "step": 4, "url": f"{scripted.url}/files/{index}.png"}
    return {**waiting(index), **there, "file_name": f"{index}.png"}


def finished(scripted, index: int) -> dict:
    """A picture of a result."""
    image = drawn(scripted, index)
    return {name: image[name] for name in ("url", "file_name", "asked_pose")}


def stream(*snapshots: dict) -> Reply:
    lines = [
        f"id: {number}\ndata: {json.dumps(snapshot)}\n\n" for number, snapshot in enumerate(snapshots, 1)
    ]
    return Reply(content="".join(lines).encode(), headers={"content-type": "text/event-stream"})


async def test_each_picture_is_told_once_as_it_comes(face, scripted):
    half = state("PROCESSING", images=[waiting(0), drawn(scripted, 1), waiting(2)])
    more = state("PROCESSING", images=[drawn(scripted, 0), drawn(scripted, 1), waiting(2)])
    end = completed(images=[finished(scripted, index) for index in range(3)])
    scripted.script("GET", EVENTS, stream(state("QUEUED"), half, half, more, end))
    images = await face.collect(face.client.job(ID).images())
    assert images == [drawn(scripted, 1), drawn(scripted, 0), {"index": 2, **finished(scripted, 2)}]


async def test_what_costs_credits_comes_at_the_end(face, scripted):
    shown = {**waiting(0), "state": "done", "preview": f"{scripted.url}/files/small.jpg"}
    end = completed(images=[finished(scripted, index) for index in range(2)])
    scripted.script("GET", EVENTS, stream(state("PROCESSING", images=[shown, waiting(1)]), end))
    images = await face.collect(face.client.job(ID).images())
    assert [image["index"] for image in images] == [0, 1]


async def test_a_failure_ends_the_pictures(face, scripted):
    half = state("PROCESSING", images=[drawn(scripted, 0), waiting(1)])
    scripted.script("GET", EVENTS, stream(half, state("FAILED", error="It was cancelled.", code="cancelled")))
    with pytest.raises(InferenceFailed, match="cancelled"):
        await face.collect(face.client.job(ID).images())


async def test_a_picture_is_saved_by_itself(face, scripted, tmp_path):
    scripted.script("GET", "/files/1.png", Reply(content=b"picture"))
    job = face.client.job(ID)
    image = drawn(scripted, 1)
    assert await face(job.save_image(image, tmp_path)) == tmp_path / "02-wave.png"
    assert await face(job.save_image(image, tmp_path / "mine.png")) == tmp_path / "mine.png"
    assert (tmp_path / "mine.png").read_bytes() == b"picture"
    assert all("x-api-key" not in request.headers for request in scripted.received)
    scripted.script("GET", "/files/1.png", Reply(404, {"error": "It has expired.", "code": "file_not_found"}))
    with pytest.raises(NotFound):
        await face(job.save_image(image, tmp_path / "gone.png"))
    assert not (tmp_path / "gone.png").exists()


async def test_a_picture_that_cannot_be_had_yet_is_not_saved(face, scripted, tmp_path):
    with pytest.raises(InvalidRequest, match="url"):
        await face(face.client.job(ID).save_image(waiting(0), tmp_path / "mine.png"))
    assert scripted.received == []
