"""Files between those who name them in jobs and the sweeper: none outlives its time for anybody else."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update

from understudy.errors import InvalidRequest
from understudy.jobs.files import StoredFile
from understudy.jobs.tables import files as table


@pytest.fixture
def keep(files, key):
    """Keep an upload of a name and until a time."""

    async def keep_file(name: str, expires_at: float) -> dict[str, dict[str, object]]:
        file = StoredFile(
            name=name,
            account_id=key.account_id,
            kind="upload",
            content_type="image/png",
            size=3,
            created_at=time.time(),
            expires_at=expires_at,
        )
        await files.add([file])
        return {"ip_image": {"file": name, "decoded": True, "name": f"/files/{name}"}}

    return keep_file


async def test_bytes_stay_for_a_job_that_was_accepted_and_are_shown_no_longer(
    store, files, key, submit, keep, monkeypatch
):
    until = time.time() + 60
    inputs = await keep("a.png", until)
    job = await submit(key, inputs=inputs)
    assert (await files.find("a.png")).expires_at == until
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert await files.find("a.png") is None
    await keep("b.png", 1.0)
    assert await files.list_expired() == ["b.png"]
    await store.cancel(job.id, key.account_id)
    assert sorted(await files.list_expired()) == ["a.png", "b.png"]
    assert len(await files.list_expired(1)) == 1


async def test_what_many_jobs_need_hides_nothing_that_can_go(files, key, submit, keep, monkeypatch):
    for number in range(3):
        await submit(key, inputs=await keep(f"{number}.png", time.time() + 60))
    await keep("old.png", time.time() + 61)
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    assert await files.list_expired(2) == ["old.png"]


async def test_a_file_that_is_gone_meanwhile_is_not_revived(store, files, key, submit, keep):
    inputs = await keep("a.png", time.time() + 60)
    assert await files.find_recent("a.png") is not None
    # As when its request is deleted.
    expire = update(table).values(expires_at=time.time())
    await store.database.write(lambda connection: connection.execute(expire).rowcount)
    with pytest.raises(InvalidRequest) as refused:
        await submit(key, inputs=inputs)
    assert (refused.value.code, refused.value.field) == ("invalid_picture", "ip_image")
    assert await files.find("a.png") is None
    assert await files.list_expired() == ["a.png"]
    assert await store.list_history(key.account_id, limit=9) == []
    with pytest.raises(InvalidRequest):
        await submit(key, inputs={"ip_image": {"files": ["never.png"], "name": "character:Ann"}})
