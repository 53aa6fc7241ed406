"""`understudy fetch`: weights from a hub into its cache, at one commit, whatever cuts it off."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub_server import Hub, Repository, open_hub

from understudy.hub import PIECE_BYTES

NAME = "tiny/classifier"
OLD, NEW = "a" * 40, "b" * 40
WEIGHTS = random.Random(1).randbytes(3 * PIECE_BYTES + 1000)
FILES = {
    "config.json": b"{}",
    "preprocessor_config.json": b'{"size": 1}',
    "README.md": b"what nobody loads",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS[::-1],
}


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A hub with one repository, and a machine that has nothing of it."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with open_hub() as hub:
        hub.repositories[NAME] = Repository({OLD: FILES})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("UNDERSTUDY_BLOCK_PICTURES", "true")
        monkeypatch.setenv("UNDERSTUDY_CLASSIFIER_MODEL", NAME)
        yield hub


def snapshot(tmp_path: Path, commit: str) -> Path:
    return tmp_path / "home" / "hub" / "models--tiny--classifier" / "snapshots" / commit


def record(tmp_path: Path) -> dict[str, str]:
    return json.loads((tmp_path / "data" / "weights.json").read_text())


def test_a_killed_download_goes_on_where_it_was(hub, understudy, tmp_path):
    hub.stalls["model.safetensors"] = 2 * PIECE_BYTES + 500
    command = [sys.executable, "-m", "understudy.cli", "fetch", "toon"]
    with subprocess.Popen(command, cwd=tmp_path) as killed:
        blobs = snapshot(tmp_path, OLD).parent.parent / "blobs"
        while not [file for file in blobs.glob("*.incomplete") if file.stat().st_size == 2 * PIECE_BYTES]:
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    assert not (tmp_path / "data").exists(), "what is not whole is not drawn with"

    hub.stalls.clear()
    said = understudy("fetch", "toon").stdout
    assert hub.ranges_of("model.safetensors") == [None, f"bytes={2 * PIECE_BYTES}-"]
    assert OLD[:12] in said
    folder = snapshot(tmp_path, OLD)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        name: content for name, content in FILES.items() if name not in ("README.md", "pytorch_model.bin")
    }
    assert record(tmp_path) == {f"{NAME}@main": OLD}

    asked = len(hub.requests)
    assert "is here" in understudy("fetch", "toon").stdout
    assert len(hub.requests) == asked, "what is whole is not asked for again"


@pytest.mark.slow
def test_ctrl_c_ends_it_and_keeps_what_came(hub, understudy, tmp_path):
    hub.stalls["model.safetensors"] = 2 * PIECE_BYTES
    other = random.Random(2).randbytes(PIECE_BYTES // 2)
    hub.repositories[NAME].commits[OLD] = {**FILES, "preprocessor_config.json": other}
    command = [sys.executable, "-m", "understudy.cli", "fetch", "toon"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as stopped:
        blobs = snapshot(tmp_path, OLD).parent.parent / "blobs"
        while not (blobs / hashlib.sha256(other).hexdigest()).exists() or not [
            file for file in blobs.glob("*.incomplete") if file.stat().st_size
        ]:
            assert stopped.poll() is None
            time.sleep(0.02)
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(30) == 130
        assert "Traceback" not in stopped.stderr.read()
    hub.stalls.clear()
    understudy("fetch", "toon")
    assert hub.ranges_of("preprocessor_config.json") == [None]
    assert hub.ranges_of("model.safetensors")[-1] is not None


def test_a_repository_that_moves_on_changes_nothing_until_it_is_asked_for(hub, understudy, tmp_path):
    understudy("fetch", "toon")
    hub.repositories[NAME].commits[NEW] = {**FILES, "config.json": b'{"new": true}'}
    understudy("fetch", "toon")
    assert record(tmp_path) == {f"{NAME}@main": OLD}
    planned = understudy("fetch", "toon", "--update", "--dry-run").stdout
    assert NEW in planned
    assert record(tmp_path) == {f"{NAME}@main": OLD}
    understudy("fetch", "toon", "--update")
    assert record(tmp_path) == {f"{NAME}@main": NEW}
    assert hub.ranges_of("model.safetensors") == [None], "the same file lies there already"
    assert (snapshot(tmp_path, NEW) / "config.json").read_bytes() == b'{"new": true}'


def test_a_dry_run_tells_what_would_be_fetched_and_fetches_nothing(hub, understudy, tmp_path):
    (line,) = [line for line in understudy("fetch", "toon", "--dry-run").stdout.splitlines() if NAME in line]
    assert line.split() == ["picture", "classifier", NAME, OLD, "3", "3.15", "MB", "3.15", "MB"]
    assert not (tmp_path / "data").exists()
    assert not [file for file in (tmp_path / "home").rglob("*") if file.is_file()]


def test_a_file_that_is_damaged_on_its_way_is_refused(hub, understudy, tmp_path):
    blobs = snapshot(tmp_path, OLD).parent.parent / "blobs"
    blobs.mkdir(parents=True)
    unfinished = blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.understudy.incomplete"
    unfinished.write_bytes(b"x" * 1000)
    assert "model.safetensors" in understudy("fetch", "toon", status=1).stderr
    understudy("fetch", "toon")
    assert (snapshot(tmp_path, OLD) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_token_is_not_sent_on_to_where_large_files_lie(hub, understudy, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    with open_hub() as other:
        other.repositories, hub.elsewhere = hub.repositories, other.url
        understudy("fetch", "toon")
        assert "Bearer hf_secretsecretsecret" in hub.tokens
        assert other.ranges_of("model.safetensors") == [None]
        assert set(other.tokens) == {None}
    assert (snapshot(tmp_path, OLD) / "model.safetensors").read_bytes() == WEIGHTS


def test_an_answer_that_brings_nothing_ends_it(hub, understudy):
    hub.empty.add("model.safetensors")
    assert "did not arrive" in understudy("fetch", "toon", status=1).stderr
    assert hub.ranges_of("model.safetensors") == [None]


def test_no_more_is_taken_than_the_hub_has_told(hub, understudy, tmp_path):
    hub.sizes["model.safetensors"] = PIECE_BYTES
    assert "did not arrive" in understudy("fetch", "toon", status=1).stderr
    assert not (snapshot(tmp_path, OLD) / "model.safetensors").exists()


def test_a_hub_does_not_choose_where_its_files_are_written(hub, understudy, tmp_path):
    hub.digests["model.safetensors"] = "../../../../elsewhere"
    assert "no SHA-256 of model.safetensors" in understudy("fetch", "toon", status=1).stderr
    assert not list(tmp_path.rglob("elsewhere*"))


def test_what_the_hub_refuses_is_one_sentence(hub, understudy, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")

    def refused(**settings: str) -> str:
        said = understudy("fetch", "toon", status=1, **settings)
        assert "hf_secret" not in said.stdout + said.stderr
        assert len(said.stderr.splitlines()) == 1
        return said.stderr

    hub.repositories[NAME].gated = True
    assert f"{hub.url}/{NAME}" in refused()
    hub.repositories[NAME].gated = False
    assert "UNDERSTUDY_CLASSIFIER_MODEL" in refused(classifier_model="nobody/nothing")
    assert "revision 'gone'" in refused(classifier_revision="gone")
    hub.repositories["tiny/text"] = Repository({OLD: {"README.md": b"a text"}})
    assert "preprocessor_config.json" in refused(classifier_model="tiny/text")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for revision in ("main", "0" * 40):
        assert "http://127.0.0.1:9 cannot be reached" in refused(classifier_revision=revision)


def test_what_does_not_fit_on_the_disk_is_not_begun(hub, understudy):
    hub.sizes["model.safetensors"] = 10**18
    said = understudy("fetch", "toon", status=1).stderr
    assert "1000000000.0 GB" in said
    assert said.count(" GB") == 2
    assert hub.ranges_of("config.json") == []


def test_a_licence_is_accepted_first(hub, understudy):
    said = understudy(
        "fetch", "flux2-klein", status=1, flux2_klein_model="black-forest-labs/FLUX.2-klein-9B"
    ).stderr
    assert "UNDERSTUDY_ACCEPTED_LICENCES" in said
    assert hub.requests == []


def test_an_engine_that_is_none_is_told_with_those_there_are(understudy):
    assert "'oil'" in understudy("fetch", "oil", status=2).stderr
    assert "sdxl" in understudy("fetch", "oil", status=2).stderr
