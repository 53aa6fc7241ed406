"""`understudy doctor`: what it finds on this machine and in a data folder, what it says when something is
wrong, and that it changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy import __version__
from understudy.commands.doctor import data_folder, engine, machine
from understudy.database import migrate_database
from understudy.settings import Settings

DATABASE = "understudy.sqlite3"

Findings = list[dict[str, Any]]


def _find(words, name) -> Findings:
    return [finding for finding in json.loads(words) if finding["name"] == name]


def ask(folder: Path, *arguments: object, prepare=None, status: int = 0, **environment: str) -> Findings:
    """What `understudy doctor` finds with a data folder."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "understudy.cli", "doctor", "--json", "--engine", "null"),
            *("--data-dir", str(folder), *map(str, arguments or ("--port", 0))),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=prepare,
    )
    assert done.returncode == status, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    assert status == any(finding["state"] == "fail" for finding in findings)
    return check_words(findings)


def check_words(findings: Findings) -> Findings:
    """Each finding is one line, and what is not well has another that says what to do."""
    for finding in findings:
        assert "\n" not in finding["detail"]
        assert finding["state"] == "ok" or finding["remedy"], finding
    return findings


def examine(folder: Path) -> Findings:
    """What the doctor finds in a data folder, asked within this process."""
    settings = Settings(data_dir=folder)
    return check_words([asdict(finding) for check in data_folder.CHECKS for finding in check(settings)])


def find(findings: Findings, name: str, state: str) -> str:
    """The words of the one finding of a name that is in a state."""
    (found,) = [one["detail"] for one in findings if (one["name"], one["state"]) == (name, state)]
    return found


def look(folder: Path) -> dict[str, tuple]:
    """All that can be seen of a folder from outside."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).digest() if path.is_file() else path.stat().st_ctime_ns,
        )
        for path in [folder, *folder.rglob("*")]
        # A shared index of SQLite's, in which readers of a running service's database mark their place.
        if path.name != f"{DATABASE}-shm"
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder with a picture that has its row."""
    folder = tmp_path / "data"
    migrate_database(folder)
    (folder / "files").mkdir(mode=0o700)
    (folder / "files" / "one.png").write_bytes(b"a picture")
    change(
        folder,
        "INSERT INTO accounts (id, name, created_at) VALUES ('a', 'first', 1)",
        "INSERT INTO files VALUES ('one.png', 'a', 'upload', NULL, 'image/png', 9, 1, NULL)",
    )
    return folder


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        for statement in statements:
            database.execute(statement)


def limit(kind: int, count: int):
    """What a process does first, so that the system refuses it more than so much."""
    return lambda: resource.setrlimit(kind, (count, count))


# The machine.


def test_a_machine_that_passes_the_tests_is_well(understudy, tmp_path):
    words = understudy("doctor", "--json", "--port", 0, "--data-dir", tmp_path / "data").stdout
    assert not [finding for finding in json.loads(words) if finding["state"] == "fail"]
    assert _find(words, "Understudy")[0]["detail"] == __version__
    assert torch.__version__ in _find(words, "PyTorch")[0]["detail"]
    assert "toon" in _find(words, "Engine")[0]["detail"]
    assert not (tmp_path / "data").exists()


def test_what_fails_is_told_with_what_mends_it(understudy, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    words = understudy(
        *("doctor", "--json", "--engine", "null", "--data-dir", tmp_path / "file" / "data"),
        public_url="pictures.example",
        status=1,
    ).stdout
    for name in ("Data folder", "Public URL"):
        (finding,) = _find(words, name)
        assert finding["state"] == "fail"
        assert finding["remedy"]


def test_a_setting_that_is_not_valid_is_named(understudy):
    done = understudy("doctor", engine="oil", status=1)
    assert "UNDERSTUDY_ENGINE" in done.stderr
    assert "toon" in done.stderr


def _block(words: str, engine: str) -> dict[str, dict[str, Any]]:
    """What was found of an engine, by name."""
    return {finding["name"]: finding for finding in json.loads(words) if finding["engine"] == engine}


def test_what_an_engine_lacks_is_told_with_the_command_that_gets_it(understudy, tmp_path):
    (tmp_path / "sdxl").mkdir()
    words = understudy(
        *("doctor", "--json", "--port", 0),
        engine="sdxl",
        sdxl_model=tmp_path / "sdxl",
        sdxl_vae="nobody/nothing",
        hf_home=tmp_path,
        status=1,
    ).stdout
    block = _block(words, "sdxl")
    assert (block["Engine"]["state"], block["Engine"]["remedy"]) == ("fail", "understudy fetch sdxl")
    assert "VAE (nobody/nothing)" in block["Weights"]["detail"]
    assert [one["state"] for one in _find(words, "Weights") if "lacks model_index.json" in one["detail"]] == [
        "warn"
    ]
    assert "not tried" in _find(words, "Worker")[0]["detail"], "nothing is downloaded to answer a question"
    assert _block(words, "toon")["Engine"] | {"remedy": None} == {
        "name": "Engine",
        "engine": "toon",
        "state": "ok",
        "detail": "toon: ready",
        "remedy": None,
    }


def test_what_is_not_to_be_drawn_with_may_lack_something(understudy, tmp_path):
    words = understudy(
        *("doctor", "--json", "--engine", "null", "--port", 0, "--data-dir", tmp_path / "data"),
        flux2_klein_model="black-forest-labs/FLUX.2-klein-9B",
    ).stdout
    block = _block(words, "flux2-klein")
    assert {finding["state"] for finding in block.values()} == {"info"}
    assert "UNDERSTUDY_ACCEPTED_LICENCES" in block["Licence"]["remedy"]
    assert "black-forest-labs/FLUX.2-klein-9B" in block["Weights"]["detail"]
    assert _block(words, "null")["Engine"]["detail"] == "null: ready"


@pytest.mark.parametrize(
    ("free", "host", "state", "told"),
    [
        (80e9, 100e9, "ok", "full"),
        (24e9, 2e9, "fail", "of this machine's memory"),
        (1e9, 100e9, "fail", "of free GPU memory"),
        (None, 200e9, "ok", "single precision"),
        (None, 100e6, "fail", "single precision"),
    ],
)
def test_the_memory_profile_is_told_that_would_be_picked(tmp_path, monkeypatch, free, host, state, told):
    monkeypatch.setattr(engine, "_count_free_memory", lambda: host)
    device = {"name": "cpu"} if free is None else {"name": "cuda:0", "free": int(free)}
    settings = Settings(data_dir=tmp_path, engine="qwen-edit")
    (memory,) = [
        finding
        for finding in engine.check_engines(settings, device)
        if (finding.engine, finding.name) == ("qwen-edit", "Memory")
    ]
    assert (memory.state, told in memory.detail) == (state, True), memory.detail


def test_for_people_every_line_has_its_state(understudy, tmp_path):
    lines = understudy("doctor", "--engine", "null", "--port", 0, "--data-dir", tmp_path).stdout.splitlines()
    assert sum(line.startswith(("ok", "info", "warn", "fail")) for line in lines) >= 8


def test_a_pipe_gets_every_command_on_one_line(understudy, tmp_path):
    asked = ("doctor", "--engine", "null", "--port", 0, "--data-dir", tmp_path)
    findings = json.loads(understudy(*asked, "--json").stdout)
    lines = understudy(*asked, columns=40).stdout.splitlines()
    assert len(lines) == sum(1 + (finding["remedy"] is not None) for finding in findings)
    for finding in findings:
        # What is free on the disk may have changed in between.
        if finding["name"] != "Disk":
            assert any(line.endswith(finding["remedy"] or finding["detail"]) for line in lines)


def test_a_setting_that_is_none_is_told_with_the_nearest(understudy, tmp_path):
    words = understudy(
        *("doctor", "--json", "--engine", "null", "--port", 0, "--data-dir", tmp_path), sdxl_modle="x"
    ).stdout
    (finding,) = _find(words, "Setting")
    assert finding["state"] == "warn"
    assert "UNDERSTUDY_SDXL_MODLE" in finding["detail"]
    assert "UNDERSTUDY_SDXL_MODEL?" in finding["detail"]


def test_a_folder_of_weights_that_is_not_there_fails(understudy, tmp_path):
    words = understudy("doctor", "--json", engine="sdxl", sdxl_model=tmp_path / "nothing", status=1).stdout
    details = [finding["detail"] for finding in _find(words, "Weights") if finding["state"] == "fail"]
    assert any("UNDERSTUDY_SDXL_MODEL" in detail for detail in details)


def test_a_device_that_is_not_there_fails(understudy, tmp_path):
    words = understudy("doctor", "--json", "--data-dir", tmp_path, device="cuda:99", status=1).stdout
    assert "fail" in [finding["state"] for finding in _find(words, "Device")]


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_told_without_its_password(monkeypatch, name):
    for other in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.upper(), raising=False)
    monkeypatch.setenv(name, "http://user:pass-word@proxy.example:3128")
    (told,) = machine.check_proxy()
    assert (told.state, name.upper() in told.detail) == ("warn", True)
    assert "pass-word" not in str(told)
    variable, _, value = (told.remedy or "").removeprefix("export ").partition("=")
    monkeypatch.setenv(variable, value)
    (told,) = machine.check_proxy()
    assert (told.state, name.upper() in told.detail) == ("ok", True)


def test_a_torch_that_ends_without_a_word_fails(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = machine.find_missing_device(Settings(data_dir=tmp_path))
    assert (told or "").startswith("PyTorch: cannot be imported: ended with status 0")


def test_a_port_that_is_taken_fails(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in find(ask(tmp_path, "--port", port, status=1), "Port", "fail")
    (free,) = machine.check_port(Settings(data_dir=tmp_path), "127.0.0.1", port)
    assert free.state == "ok"


@pytest.mark.parametrize(("count", "state"), [(100, "fail"), (500, "warn")])
def test_a_low_limit_of_open_files_is_told(tmp_path, count, state):
    findings = ask(tmp_path, prepare=limit(resource.RLIMIT_NOFILE, count), status=int(state == "fail"))
    assert str(count) in find(findings, "Open files", state)


# The worker.


def run_first(tmp_path: Path, program: str) -> dict[str, str]:
    """An environment in which a worker, and nothing else, runs a program first."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, sys\nif 'understudy.worker' in sys.orig_argv:\n    {program}\n"
    )
    return {"PYTHONPATH": str(tmp_path)}


def test_a_worker_that_dies_at_its_start_fails(tmp_path):
    findings = ask(tmp_path / "data", status=1, **run_first(tmp_path, "os._exit(7)"))
    assert "ended while it loaded" in find(findings, "Worker", "fail")


def test_a_package_that_the_engine_needs_and_is_not_there_fails(tmp_path):
    absent = run_first(tmp_path, "sys.modules['diffusers'] = None")
    findings = ask(tmp_path / "data", "--port", 0, "--engine", "toon", status=1, **absent)
    assert "does not start" in find(findings, "Worker", "fail")


def test_a_worker_that_starts_is_told_and_ended(tmp_path):
    assert "starts: null" in find(ask(tmp_path / "data"), "Worker", "ok")


# The data folder.


def test_a_folder_that_is_well_is_told_and_left_as_it_is(folder):
    before = look(folder)
    findings = examine(folder)
    assert {one["state"] for one in findings if one["name"] in ("Data folder", "Database", "Pictures")} == {
        "ok"
    }
    assert look(folder) == before


@pytest.mark.parametrize("name", ["data", "data/files"])
def test_a_file_in_the_place_of_a_folder_fails(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("a file")
    assert "is no folder" in find(examine(tmp_path / "data"), "Data folder", "fail")


def test_a_folder_that_cannot_be_written_fails(folder):
    """The system refuses each byte that is written to a file, as on a disk that is full."""
    before = look(folder)
    findings = ask(folder, prepare=limit(resource.RLIMIT_FSIZE, 0), status=1)
    assert "cannot be written" in find(findings, "Data folder", "fail")
    assert look(folder) == before


def test_a_folder_of_somebody_else_is_told(folder):
    (finding,) = data_folder.check_owner(folder, os.geteuid() + 1)
    assert str(os.geteuid()) in finding.detail
    assert f"sudo -u '#{os.geteuid()}'" in (finding.remedy or "")
    assert list(data_folder.check_owner(folder, os.geteuid())) == []


def test_a_folder_that_others_may_read_is_told(folder):
    folder.chmod(0o755)
    assert "others" in find(examine(folder), "Data folder", "warn")
    folder.chmod(0o700)
    (folder / DATABASE).chmod(0o644)
    assert DATABASE in find(examine(folder), "Data folder", "warn")


@pytest.mark.parametrize("damage", ["no database", "overwritten", "cut off", "a folder", "not ours"])
def test_a_damaged_database_fails(folder, damage):
    file = folder / DATABASE
    whole = file.read_bytes()
    file.unlink()
    match damage:
        case "no database":
            file.write_bytes(b"Once upon a time. " * 100)
        case "overwritten":
            file.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
        case "cut off":
            file.write_bytes(whole[: len(whole) // 2])
        case "a folder":
            file.mkdir()
        case "not ours":
            sqlite3.connect(file).execute("CREATE TABLE other (x)").connection.close()
    before = look(folder)
    assert "cannot be read" in find(examine(folder), "Database", "fail")
    assert look(folder) == before


def test_a_row_that_names_one_that_is_not_there_fails(folder):
    change(folder, "DELETE FROM accounts")
    assert "accounts" in find(examine(folder), "Database", "fail")


def test_a_database_of_a_newer_version_fails(folder):
    change(folder, "UPDATE alembic_version SET version_num = '9999'")
    findings = examine(folder)
    assert "9999" in find(findings, "Database", "fail")


def test_pictures_without_a_database_are_told(folder):
    (folder / DATABASE).unlink()
    assert "deletes them" in find(examine(folder), "Database", "warn")


def test_lost_pictures_and_leftovers_are_told(folder):
    (folder / "files" / "one.png").rename(folder / "files" / "two.png")
    (folder / "files" / "three.png.unfinished").write_bytes(b"half")
    (folder / "files" / "young.png").write_bytes(b"its row comes")
    for name in ("two.png", "three.png.unfinished"):
        os.utime(folder / "files" / name, (time.time() - 3600,) * 2)
    before = look(folder)
    told = [one["detail"] for one in examine(folder) if one["name"] == "Pictures"]
    assert told == [
        "1 of 1 are lost: their rows have no file",
        "2 files have no row: a service died while it wrote them",
    ]
    assert look(folder) == before


def test_beside_a_running_service_all_is_well_and_nothing_changes(service):
    port = service.url.rpartition(":")[2]
    before = look(service.data_dir)
    findings = ask(service.data_dir, "--port", port)
    assert "a service runs on it" in find(findings, "Data folder", "ok")
    assert "revision" in find(findings, "Database", "ok")
    assert "not tried" in find(findings, "Worker", "ok")
    assert "taken" in find(findings, "Port", "ok")
    assert look(service.data_dir) == before


def test_what_a_killed_service_left_in_its_log_is_read_and_left(folder):
    killed = "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('DELETE FROM files'); "
    subprocess.run([sys.executable, "-c", killed + "d.commit(); os._exit(1)", str(folder / DATABASE)])
    assert (folder / f"{DATABASE}-wal").stat().st_size > 0
    os.utime(folder / "files" / "one.png", (1, 1))
    before = look(folder)
    assert "1 files have no row" in find(examine(folder), "Pictures", "warn")
    assert look(folder) == before
