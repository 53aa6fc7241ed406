"""The event stream of a job."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from picture_host import serve_picture
from service_client import SLUG, open_client, wait_for_end


def read_events(http, request_id, **headers):
    """Every event of the stream as (id, body), and its comments."""
    events, comments = [], []
    with http.stream("GET", f"/v2/requests/{request_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        event_id = None
        for line in answer.iter_lines():
            if line.startswith("id: "):
                event_id = int(line[4:])
            elif line.startswith("data: "):
                events.append((event_id, json.loads(line[6:])))
            elif line.startswith(":"):
                comments.append(line)
    return events, comments


def test_a_stream_shows_the_job_to_its_end(toon_service, body):
    with open_client(toon_service) as http:
        request_id = http.post(f"/v2/{SLUG}", json={**body, "steps": 30}).json()["request_id"]
        events, _ = read_events(http, request_id)
        ids = [event_id for event_id, _ in events]
        bodies = [event for _, event in events]
        assert ids == sorted(set(ids))
        assert bodies[-1] == http.get(f"/v2/requests/{request_id}").json()
        assert bodies[-1]["status"] == "COMPLETED"
        steps = [event["step"] for event in bodies[:-1]]
        assert steps == sorted(steps)
        assert any(0 < step < 30 for step in steps)
        assert all(event["steps"] == 30 for event in bodies[:-1])
        previews = [event["preview"] for event in bodies[:-1] if "preview" in event]
        assert previews
        picture = Image.open(io.BytesIO(base64.b64decode(previews[-1].partition(",")[2])))
        assert picture.format == "JPEG"
        assert max(picture.size) <= 256


def test_each_picture_of_a_sheet_has_its_own_progress(toon_service, body):
    with open_client(toon_service) as http:
        sheet = {**body, "poses": ["wave", "run", "sit"], "steps": 12, "width": 256, "height": 256}
        request_id = http.post(f"/v2/{SLUG}", json=sheet).json()["request_id"]
        events, _ = read_events(http, request_id)
        ids = [event_id for event_id, _ in events]
        assert ids == sorted(set(ids))
        *pending, (_, end) = events
        order = ["waiting", "drawing", "done"]
        for index in range(3):
            told = [event["images"][index] for _, event in pending]
            ways = [(order.index(image["state"]), image["step"]) for image in told]
            assert ways == sorted(ways)
            assert all(image["step"] == 12 for image in told if image["state"] == "done")
            urls = {image["url"] for image in told if "url" in image}
            assert urls <= {end["images"][index]["url"]}
        steps = [image["step"] for _, event in pending for image in event["images"]]
        assert any(0 < step < 12 for step in steps)
        assert all(event["step"] <= event["steps"] == 36 for _, event in pending)


def test_a_late_listener_gets_the_end_at_once(http, body):
    request_id = http.post(f"/v2/{SLUG}", json=body).json()["request_id"]
    wait_for_end(http, request_id)
    events, _ = read_events(http, request_id)
    assert [event["status"] for _, event in events] == ["COMPLETED"]


def test_a_returning_listener_is_told_the_present_state(toon_service, body):
    with open_client(toon_service) as http:
        request_id = http.post(f"/v2/{SLUG}", json={**body, "steps": 30}).json()["request_id"]
        with http.stream("GET", f"/v2/requests/{request_id}/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    last = int(line[4:])
                    break
        events, _ = read_events(http, request_id, **{"Last-Event-ID": str(last)})
        assert events[0][0] > last
        assert events[-1][1]["status"] == "COMPLETED"
        # Nothing is replayed: only the end is told again to those who know it already.
        again, _ = read_events(http, request_id, **{"Last-Event-ID": str(events[-1][0])})
        assert [event_id for event_id, _ in again] == [events[-1][0]]
        nonsense, _ = read_events(http, request_id, **{"Last-Event-ID": "x"})
        assert nonsense[-1][1]["status"] == "COMPLETED"


def test_a_failed_job_s_stream_ends_with_its_failure(http, body):
    sent = {**body, "ip_image": "http://127.0.0.1:9/a.png"}
    request_id = http.post(f"/v2/{SLUG}", json=sent).json()["request_id"]
    events, _ = read_events(http, request_id)
    assert events[-1][1]["status"] == "FAILED"
    assert events[-1][1]["code"] == "picture_unreachable"


def test_an_event_id_that_is_none_of_ours_is_ignored(http, body):
    request_id = http.post(f"/v1/{SLUG}", json=body).headers["x-request-id"]
    for last in ("9" * 5000, "999999999", "-1", "\u0663".encode()):
        events, _ = read_events(http, request_id, **{"Last-Event-ID": last})
        assert events[-1][1]["status"] == "COMPLETED"


@pytest.mark.slow
def test_a_waiting_listener_sees_its_job_move_up(toon_service, body):
    with open_client(toon_service) as http:
        # A batch is drawn and one more kept ready: only those after them have a place to move up from.
        ids = [http.post(f"/v2/{SLUG}", json={**body, "steps": 30}).json()["request_id"] for _ in range(12)]
        events, _ = read_events(http, ids[-1])
        places = [event.get("queue_position") for _, event in events if event["status"] == "QUEUED"]
        assert places[0] > places[-1] >= 1
        assert places == sorted(places, reverse=True)


def test_a_listener_goes_on_after_a_restart(start_service, body, picture_path):
    service = start_service(engine="null", fetch_allowed_hosts="127.0.0.1")
    with serve_picture(picture_path) as pictures:
        with open_client(service) as http:
            sent = {**body, "ip_image": f"{pictures.url}/slow"}
            request_id = http.post(f"/v2/{SLUG}", json=sent).json()["request_id"]
            first = read_first_event(http, request_id, stage="fetching")
        service.kill()
        service.start()
        with open_client(service) as http:
            # The job was given back and taken up anew: what the listener missed is the present state.
            second = read_first_event(http, request_id, **{"Last-Event-ID": str(first[0])})
            assert second[0] > first[0]
            assert second[1]["status"] == "QUEUED"
            assert http.delete(f"/v2/requests/{request_id}").status_code == 200
            events, _ = read_events(http, request_id, **{"Last-Event-ID": str(second[0])})
    assert [event["code"] for _, event in events] == ["cancelled"]
    assert events[-1][0] > second[0]


def read_first_event(http, request_id, stage=None, **headers):
    """The first event of the stream, or the first that tells this stage: (id, body)."""
    with http.stream("GET", f"/v2/requests/{request_id}/events", headers=headers) as answer:
        event_id = None
        for line in answer.iter_lines():
            if line.startswith("id: "):
                event_id = int(line[4:])
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                if stage in (None, event["stage"]):
                    return event_id, event
    raise AssertionError("the stream ended")
