"""What an account may keep without having paid for it: uploads and saved characters."""

from __future__ import annotations

import base64
import io
import random
import sqlite3
import uuid
from contextlib import closing

import pytest
from PIL import Image

from service_client import SLUG, make_key, open_client
from understudy.accounts.accounts import AccountStore, new_account
from understudy.database import Database, migrate_database
from understudy.errors import Conflict
from understudy.jobs.files import LEAST_BYTES, FileStore, StoredFile


def draw_noise(side: int) -> str:
    """A picture that no file holds in much less than three bytes a pixel."""
    file = io.BytesIO()
    noise = random.Random(side).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), noise).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def refusal(answer):
    return answer.status_code, answer.json()["code"]


def test_an_account_keeps_no_more_than_it_may(start_service):
    service = start_service(engine="null", account_kept_bytes=400_000)
    picture = draw_noise(256)  # nearly 200 kB
    with open_client(service) as http, open_client(service, make_key(service, "other")) as other:
        saved = {"name": "hero", "ip_image": picture}
        assert http.post("/v1/characters", json=saved).status_code == 201
        assert http.post("/upload-asset", json={"data_urls": [picture]}).status_code == 200
        refused = http.post("/upload-asset", json={"data_urls": [picture]})
        assert refusal(refused) == (409, "too_many_pictures")
        assert "0.4 MB" in refused.json()["error"]
        names = {path.name for path in (service.data_dir / "files").iterdir()}
        assert len(names) == 2, "what was refused is not kept"
        # What a request is given is not kept, and what another account has is its own.
        body = {"prompt": "a hero", "ip_image": picture, "width": 256, "height": 256}
        assert http.post(f"/v1/{SLUG}", json=body).status_code == 200
        assert other.post("/upload-asset", json={"data_urls": [picture]}).status_code == 200
        assert http.delete("/v1/characters/hero").status_code == 200
        assert http.post("/upload-asset", json={"data_urls": [picture]}).status_code == 200
        assert refusal(http.post("/v1/characters", json=saved)) == (409, "too_many_pictures")
        # The other one's upload is there: three more pictures are too many together.
        three = {"name": "hero", "ip_image": [draw_noise(160)] * 3}
        assert refusal(other.post("/v1/characters", json=three)) == (409, "too_many_pictures")
        assert (
            other.post("/v1/characters", json={**three, "ip_image": three["ip_image"][:2]}).status_code == 201
        )
        more = {"ip_image": [draw_noise(128), draw_noise(120)]}
        assert refusal(other.patch("/v1/characters/hero", json=more)) == (409, "too_many_pictures")


@pytest.fixture
async def files(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    yield FileStore(database)
    await database.close()


async def test_files_that_come_together_count_together(files):
    account = new_account("somebody")
    await AccountStore(files.database).create(account)

    def describe(size: int, kind: str = "upload") -> StoredFile:
        return StoredFile(
            name=f"{uuid.uuid4().hex}.png",
            account_id=account.id,
            kind=kind,
            content_type="image/png",
            size=size,
            created_at=0.0,
        )

    least = LEAST_BYTES
    await files.add([describe(3 * least), describe(50 * least, "output"), describe(50 * least, "input")])
    with pytest.raises(Conflict) as refused:
        await files.add([describe(least), describe(least + 1)], most_bytes=5 * least)
    assert refused.value.code == "too_many_pictures"
    assert await files.sum_kept(account.id) == 3 * least
    # A small one counts for more than it has: else there would be no end of them.
    await files.add([describe(1), describe(least - 1)], most_bytes=5 * least)
    assert await files.sum_kept(account.id) == 5 * least
    with pytest.raises(Conflict):
        await files.add([describe(1)], most_bytes=6 * least - 1)


def test_an_account_has_no_end_of_characters(start_service):
    service = start_service(engine="null")
    saved = {"ip_image": draw_noise(64)}
    with open_client(service) as http, open_client(service, make_key(service, "other")) as other:
        assert http.post("/v1/characters", json={**saved, "name": "first"}).status_code == 201
        with closing(sqlite3.connect(service.data_dir / "understudy.sqlite3", timeout=60)) as database:
            # As if they had been saved; a request for each would take long.
            database.executemany(
                "INSERT INTO characters (account_id, name, prompt, created_at)"
                " SELECT account_id, ?, prompt, created_at FROM characters WHERE name = 'first'",
                [(f"{number}",) for number in range(999)],
            )
            database.commit()
        refused = http.post("/v1/characters", json={**saved, "name": "one more"})
        assert refusal(refused) == (409, "too_many_pictures")
        assert "1000 saved characters" in refused.json()["error"]
        assert other.post("/v1/characters", json={**saved, "name": "first"}).status_code == 201
        assert http.delete("/v1/characters/first").status_code == 200
        assert http.post("/v1/characters", json={**saved, "name": "one more"}).status_code == 201
