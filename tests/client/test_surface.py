"""The SDK's surface: two clients alike, the reference SDK's names, the environment, light imports."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import understudy
from understudy import AsyncClient, AwaitableJob, Client, InvalidRequest, Job, NotAuthenticated

from .conftest import Reply

BOTH = [(Client, AsyncClient), (Job, AwaitableJob)]


def public(cls: type) -> dict[str, object]:
    return {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}


@pytest.mark.parametrize(("blocking", "awaitable"), BOTH, ids=["client", "job"])
def test_both_clients_are_alike(blocking, awaitable):
    assert public(blocking).keys() == public(awaitable).keys()
    assert inspect.getdoc(awaitable) == inspect.getdoc(blocking)
    assert inspect.signature(blocking).parameters.keys() == inspect.signature(awaitable).parameters.keys()
    for name, member in public(blocking).items():
        twin = getattr(awaitable, name)
        assert inspect.getdoc(member), name
        assert inspect.getdoc(twin) == inspect.getdoc(member), name
        if inspect.isfunction(member):
            ours, theirs = inspect.signature(member), inspect.signature(twin)
            assert list(ours.parameters.values()) == list(theirs.parameters.values()), name


@pytest.mark.parametrize(("blocking", "awaitable"), BOTH, ids=["client", "job"])
def test_whatever_waits_is_awaited(blocking, awaitable):
    for name, member in public(awaitable).items():
        if inspect.isfunction(member) and name != "job":
            assert inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member), name
            assert not inspect.iscoroutinefunction(getattr(blocking, name)), name


def test_the_reference_sdks_names():
    assert understudy.SegmindClient is Client
    assert understudy.AsyncJob is Job
    assert understudy.SegmindError is understudy.UnderstudyError
    for name in understudy.__all__:
        assert getattr(understudy, name).__doc__, name


def test_the_version_is_the_packages():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert understudy.__version__ == project["version"]


def test_importing_is_light():
    """What a machine without the server's packages does not have stays out, and so do the other rooms."""
    heavy = ["torch", "diffusers", "transformers", "onnxruntime", "numpy", "PIL"]
    heavy += ["typer", "fastapi", "sqlalchemy", "msgspec", "pydantic_settings"]
    rooms = [f"understudy.{room}" for room in ["server", "engines", "jobs", "executors", "settings", "cli"]]
    program = (
        "import sys, understudy; understudy.Client(); understudy.AsyncClient(); "
        f"print([name for name in {heavy + rooms} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("given", ["{}", "{}/", "{}/v1", "{}/v1/", "{}/v2", " {}/v1\n"])
async def test_the_address_may_end_in_v1_or_not(make_face, scripted, given):
    scripted.script("GET", "/v1/models", Reply(body={"models": []}))
    face = make_face(given.format(scripted.url))
    assert face.client.base_url == f"{scripted.url}/v1"
    assert await face(face.client.models()) == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_environment_is_read_and_arguments_win(monkeypatch, kind):
    monkeypatch.setenv("UNDERSTUDY_BASE_URL", "http://10.0.0.1:9/v1")
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "from-environment\n")
    client = kind()
    assert client.base_url == "http://10.0.0.1:9/v1"
    assert client._calls.headers == {"x-api-key": "from-environment"}
    client = kind("mine", "https://host/prefix")
    assert client.base_url == "https://host/prefix/v1"
    assert client._calls.headers == {"x-api-key": "mine"}
    assert "mine" not in repr(client)
    monkeypatch.delenv("UNDERSTUDY_BASE_URL")
    monkeypatch.delenv("UNDERSTUDY_API_KEY")
    # The key of another service is not sent to this one.
    monkeypatch.setenv("SEGMIND_API_KEY", "somebody else's")
    client = kind()
    assert client.base_url == "http://127.0.0.1:8000/v1"
    assert client._calls.headers == {}


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://host/v1", "/v1", "http://"])
def test_an_address_that_is_none_is_told_at_once(address):
    with pytest.raises(InvalidRequest, match="base_url must begin with http"):
        Client("key", address)


@pytest.mark.parametrize("key", ["käse", "two\nlines"])
def test_a_key_that_cannot_be_one_is_told_without_showing_it(key):
    with pytest.raises(NotAuthenticated) as caught:
        Client(key)
    assert key not in str(caught.value)


def test_clients_close_with_their_block(scripted):
    scripted.script("GET", "/v1/models", Reply(body={"models": []}))
    with Client("key", scripted.url) as client:
        assert client.models() == []
    with pytest.raises(RuntimeError, match="closed"):
        client.models()


async def test_async_clients_close_with_their_block(scripted):
    scripted.script("GET", "/v1/models", Reply(body={"models": []}))
    async with AsyncClient("key", scripted.url) as client:
        assert await client.models() == []
    with pytest.raises(RuntimeError, match="closed"):
        await client.models()


async def test_the_other_calls_and_their_routes(face, scripted):
    scripted.script("GET", "/v1/models/m", Reply(body={"slug": "m"}))
    scripted.script("GET", "/v1/poses", Reply(body={"poses": [{"name": "waving"}]}))
    scripted.script("GET", "/v1/requests?limit=5&status=FAILED", Reply(body={"requests": []}))
    scripted.script("DELETE", "/v1/requests/r", Reply(body={}))
    scripted.script("GET", "/v1/characters", Reply(body={"characters": []}))
    scripted.script("POST", "/v1/characters", Reply(body={"name": "hero"}))
    scripted.script("GET", "/v1/characters/a%20b%2Fc", Reply(body={"name": "a b/c"}))
    scripted.script("PATCH", "/v1/characters/a%20b%2Fc", Reply(503), Reply(body={"name": "neo"}))
    scripted.script("DELETE", "/v1/characters/a%20b%2Fc", Reply(204, content=b""))
    client = face.client
    assert await face(client.model("m")) == {"slug": "m"}
    assert await face(client.poses()) == [{"name": "waving"}]
    assert await face(client.history(limit=5, status="FAILED", cursor=None)) == {"requests": []}
    assert await face(client.delete("r")) is None
    assert await face(client.characters()) == []
    assert await face(client.save_character("hero", b"\xff\xd8\xff", prompt="a knight")) == {"name": "hero"}
    assert scripted.received[-1].json == {
        "name": "hero",
        "ip_image": "data:image/jpeg;base64,/9j/",
        "prompt": "a knight",
        "negative_prompt": "",
    }
    assert await face(client.character("a b/c")) == {"name": "a b/c"}
    pictures = ["http://host/a.png", b"\xff\xd8\xff"]
    changed = client.update_character("a b/c", new_name="neo", ip_image=pictures, negative_prompt="")
    assert await face(changed) == {"name": "neo"}
    assert scripted.received[-1].json == {
        "name": "neo",
        "ip_image": ["http://host/a.png", "data:image/jpeg;base64,/9j/"],
        "negative_prompt": "",
    }
    # What was sent again is known by its key.
    assert len({one.headers["idempotency-key"] for one in scripted.received[-2:]}) == 1
    assert await face(client.delete_character("a b/c")) is None


def test_the_module_uses_one_client_of_the_environment(scripted, monkeypatch):
    monkeypatch.setattr(understudy, "_default_client", None)
    monkeypatch.setenv("UNDERSTUDY_BASE_URL", scripted.url)
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "from-environment")
    scripted.script_job(Reply(body={"status": "COMPLETED"}), result=Reply(body={"status": "COMPLETED"}))
    scripted.script("POST", "/v1/m", Reply(content=b"picture"))
    assert understudy.run("m", prompt="x") == {"status": "COMPLETED"}
    first = understudy._default_client
    assert understudy.submit_async("m").wait() == {"status": "COMPLETED"}
    assert understudy.run_sync("m").content == b"picture"
    assert understudy._default_client is first
    first.close()
