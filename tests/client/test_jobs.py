"""Submitting, waiting, cancelling and saving, against a scripted service."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import understudy
from understudy import (
    Conflict,
    DeadlineExceeded,
    InferenceFailed,
    InferenceTimeout,
    InvalidRequest,
    NotFound,
    ServiceError,
)
from understudy.client import exchange

from .conftest import ID, Reply, completed, state

PICTURE = b"\x89PNG\r\n\x1a\n and so on"
FAILED = state("FAILED", error="content_policy_violation: no.", code="content_policy_violation")


async def test_every_keyword_goes_to_the_model_as_it_stands(face, scripted):
    scripted.script_job(Reply(body=state("COMPLETED")))
    parameters = {
        "prompt": "x",
        "timeout": 3,
        "interval": 0.5,
        "parameters": {"a": [1, None]},
        "ip_image": " http://h/p.png",
        "unknown": True,
    }
    result = await face(face.client.run("m", **parameters))
    assert result == completed()
    submit = scripted.received[0]
    assert submit.json == parameters
    assert submit.headers["x-api-key"] == "key"
    assert submit.headers["content-type"] == "application/json"
    assert submit.headers["user-agent"] == f"understudy-python/{understudy.__version__}"


async def test_the_handle_knows_what_the_service_answered(face, scripted):
    scripted.script_job(Reply(body=state("QUEUED", queue_position=3)))
    job = await face.submit(prompt="x")
    assert job.request_id == ID
    assert job.status_url == scripted.submitted["status_url"]
    assert job.response_url == scripted.submitted["response_url"]
    assert job.submit_response == scripted.submitted
    assert repr(job) == f"{type(job).__name__}('{ID}')"
    assert (await face(job.status()))["queue_position"] == 3


async def test_follow_up_urls_are_used_as_they_stand(face, scripted):
    elsewhere = scripted.submitted | {
        "status_url": f"{scripted.url}/elsewhere/s?token=1",
        "response_url": f"{scripted.url}/elsewhere/r",
    }
    scripted.script("POST", "/v2/m", Reply(body=elsewhere))
    scripted.script("GET", "/elsewhere/s?token=1", Reply(body=state("COMPLETED")))
    scripted.script("GET", "/elsewhere/r", Reply(body=completed()))
    scripted.script("DELETE", "/elsewhere/r", Reply(409, {"error": "It has ended.", "code": "already_ended"}))
    job = await face.submit()
    assert await face(job.wait()) == completed()
    with pytest.raises(Conflict) as caught:
        await face(job.cancel())
    assert caught.value.code == "already_ended"


async def test_a_handle_is_made_again_from_its_id(face, scripted):
    scripted.script_job(Reply(body=state("COMPLETED")))
    job = face.client.job(ID)
    assert scripted.received == []
    assert await face(job.wait()) == completed()


async def test_wait_survives_a_service_that_is_busy_or_away(face, scripted):
    scripted.script_job(
        Reply(body=state("QUEUED")),
        Reply(lost=True),
        Reply(429, {"error": "Too fast."}, headers={"retry-after": "0"}),
        Reply(500, {"error": "Our fault."}),
        Reply(502, content=b"<html>bad gateway</html>"),
        Reply(504, None),
        Reply(content=b"not json"),
        Reply(body=state("PROCESSING")),
        Reply(body=state("COMPLETED")),
    )
    at_last = [Reply(503, {"error": "Restarting."}), Reply(lost=True), Reply(body=completed())]
    scripted.script("GET", f"/v2/requests/{ID}", *at_last)
    job = await face.submit()
    assert await face(job.wait(timeout=60, interval=0.01)) == completed()
    assert scripted.count("GET", f"/v2/requests/{ID}/status") == 9
    assert scripted.count("GET", f"/v2/requests/{ID}") == 3


async def test_a_service_that_stays_away_is_the_cause_of_the_timeout(face, scripted):
    scripted.script_job(Reply(503, {"error": "Restarting."}))
    job = await face.submit()
    with pytest.raises(InferenceTimeout) as caught:
        await face(job.wait(timeout=0.1, interval=0.01))
    assert isinstance(caught.value.__cause__, ServiceError)


async def test_wait_does_not_survive_what_will_not_pass(face, scripted):
    scripted.script_job(Reply(404, {"error": f"Request {ID} not found", "code": "not_found"}))
    job = await face.submit()
    with pytest.raises(NotFound):
        await face(job.wait())


async def test_polls_come_fast_at_first_and_then_by_the_interval(face, scripted, monkeypatch):
    scripted.script_job(*[Reply(body=state("PROCESSING"))] * 9, Reply(body=state("COMPLETED")))
    pauses: list[float] = []

    async def note_async(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(exchange.time, "sleep", pauses.append)
    monkeypatch.setattr(exchange.asyncio, "sleep", note_async)
    job = await face.submit()
    await face(job.wait(timeout=600, interval=1.0))
    assert pauses == pytest.approx([0.1, 0.15, 0.225, 0.3375, 0.50625, 0.759375, 1, 1, 1])


async def test_wait_is_over_in_time_and_the_job_is_not(face, scripted):
    scripted.script_job(Reply(body=state("PROCESSING")))
    job = await face.submit()
    with pytest.raises(InferenceTimeout) as caught:
        await face(job.wait(timeout=0.05, interval=10))
    error = caught.value
    assert error.request_id == ID
    assert error.elapsed_s >= 0.05
    assert error.code == "wait_timeout"
    assert ID in error.detail


async def test_no_time_at_all_is_one_poll(face, scripted):
    scripted.script_job(Reply(body=state("PROCESSING")))
    job = await face.submit()
    with pytest.raises(InferenceTimeout):
        await face(job.wait(timeout=0, interval=0))
    assert scripted.count("GET", f"/v2/requests/{ID}/status") == 1


async def test_a_failed_job_is_an_answer_to_status_and_an_error_to_wait(face, scripted):
    scripted.script_job(Reply(422, FAILED), result=Reply(422, FAILED))
    job = await face.submit()
    assert await face(job.status()) == FAILED
    assert await face(job.result()) == FAILED
    with pytest.raises(InferenceFailed) as caught:
        await face(job.wait())
    error = caught.value
    assert error.detail == FAILED["error"]
    assert error.code == "content_policy_violation"
    assert error.status_body == FAILED
    assert error.request_id == ID


async def test_a_failed_job_served_as_200_fails_too(face, scripted):
    scripted.script_job(Reply(200, {"status": "FAILED", "error": "no"}))
    job = await face.submit()
    with pytest.raises(InferenceFailed, match="no") as caught:
        await face(job.wait())
    assert caught.value.request_id == ID


async def test_cancel_returns_the_status(face, scripted):
    scripted.script_job(Reply(body=state("PROCESSING")))
    scripted.script("DELETE", f"/v2/requests/{ID}", Reply(body=state("PROCESSING", cancelling=True)))
    job = await face.submit()
    assert (await face(job.cancel()))["cancelling"] is True


async def test_the_synchronous_route_gives_a_picture(face, scripted, tmp_path):
    headers = {
        "content-type": "image/png",
        "x-request-id": ID,
        "x-seed-value": "4898558797",
        "x-cost": "0.58",
    }
    scripted.script("POST", "/v1/m", Reply(content=PICTURE, headers=headers))
    answer = await face(face.client.run_sync("m", prompt="x"))
    assert answer.content == PICTURE
    assert (answer.request_id, answer.seed, answer.status_code) == (ID, 4898558797, 200)
    assert answer.headers["X-Cost"] == "0.58"
    path = answer.save(tmp_path / "new folder" / "p.png")
    assert path.read_bytes() == PICTURE
    with pytest.raises(ValueError):
        answer.json()


async def test_the_synchronous_routes_ends(face, scripted):
    scripted.script(
        "POST",
        "/v1/m",
        Reply(422, FAILED),
        Reply(504, {"error": "The deadline ran out.", "code": "deadline_exceeded", "request_id": ID}),
    )
    with pytest.raises(InferenceFailed) as failed:
        await face(face.client.run_sync("m"))
    assert failed.value.status_body == FAILED
    with pytest.raises(DeadlineExceeded) as late:
        await face(face.client.run_sync("m"))
    assert late.value.request_id == ID
    assert scripted.count("POST", "/v1/m") == 2


def script_pictures(scripted, *names: str, poses: Sequence[str | None] | None = None) -> None:
    images = [
        {"url": f"{scripted.url}/files/{number}", "file_name": name} for number, name in enumerate(names)
    ]
    for image, pose in zip(images, poses or (), strict=False):
        image["asked_pose"] = pose
    result = completed(images=images) | {"output": images[0]["url"]}
    scripted.script_job(Reply(body=state("COMPLETED")), result=Reply(body=result))
    for number, _ in enumerate(names):
        scripted.script("GET", f"/files/{number}", Reply(content=PICTURE + bytes([number])))


async def test_one_picture_is_saved_in_a_file_or_a_folder(face, scripted, tmp_path):
    script_pictures(scripted, "a.png")
    job = await face.submit()
    assert await face(job.save(tmp_path / "new" / "mine.png")) == [tmp_path / "new" / "mine.png"]
    assert await face(job.save(str(tmp_path))) == [tmp_path / "a.png"]
    assert await face(job.save(f"{tmp_path}/other/")) == [tmp_path / "other" / "a.png"]
    assert (tmp_path / "other" / "a.png").read_bytes() == PICTURE + b"\0"


async def test_several_pictures_need_a_folder(face, scripted, tmp_path):
    script_pictures(scripted, "a.png", "b.png")
    job = await face.submit()
    with pytest.raises(InvalidRequest, match="give a folder"):
        await face(job.save(tmp_path / "one.png"))
    paths = await face(job.save(tmp_path / "sheet"))
    assert paths == [tmp_path / "sheet" / "a.png", tmp_path / "sheet" / "b.png"]
    assert [path.read_bytes()[-1] for path in paths] == [0, 1]


async def test_in_a_folder_pictures_are_named_after_their_poses(face, scripted, tmp_path):
    script_pictures(scripted, "a.png", "b.jpg", "c.png", poses=["wave", "../Ava's pose", None])
    job = await face.submit()
    paths = await face(job.save(tmp_path))
    assert [path.name for path in paths] == ["01-wave.png", "02-Ava-s-pose.jpg", "c.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


async def test_a_name_from_the_service_does_not_lead_out_of_the_folder(face, scripted, tmp_path):
    script_pictures(scripted, "../../escaped.png", "/etc/absolute.png", "..")
    job = await face.submit()
    paths = await face(job.save(tmp_path / "in"))
    assert [path.parent for path in paths] == [tmp_path / "in"] * 3
    assert all(path.is_file() for path in paths)


async def test_pictures_are_fetched_without_the_key(face, scripted, tmp_path):
    script_pictures(scripted, "a.png")
    scripted.script("GET", "/files/0", Reply(302, headers={"location": f"{scripted.url}/bucket/a"}))
    scripted.script("GET", "/bucket/a", Reply(content=PICTURE))
    job = await face.submit()
    (path,) = await face(job.save(tmp_path))
    assert path.read_bytes() == PICTURE
    assert all("x-api-key" not in r.headers for r in scripted.received if not r.path.startswith("/v2"))


async def test_a_result_of_the_oldest_kind_is_saved_too(face, scripted, tmp_path):
    script_pictures(scripted, "a.png")
    result = completed() | {"output": f"{scripted.url}/files/0"}
    scripted.script("GET", f"/v2/requests/{ID}", Reply(body=result))
    job = await face.submit()
    assert await face(job.save(tmp_path)) == [tmp_path / "0"]


async def test_only_a_completed_job_can_be_saved(face, scripted, tmp_path):
    scripted.script_job(Reply(), result=Reply(body=state("PROCESSING")))
    job = await face.submit()
    with pytest.raises(Conflict) as pending:
        await face(job.save(tmp_path))
    assert pending.value.code == "not_completed"
    scripted.script("GET", f"/v2/requests/{ID}", Reply(422, FAILED))
    with pytest.raises(InferenceFailed):
        await face(job.save(tmp_path))
    assert list(tmp_path.iterdir()) == []
