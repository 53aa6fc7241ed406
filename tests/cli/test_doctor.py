"""`understudy doctor`: what it finds on this machine, and what it says when something is missing."""

import json

import torch

from understudy import __version__


def _find(words, name):
    return [finding for finding in json.loads(words) if finding["name"] == name]


def test_a_machine_that_passes_the_tests_is_well(understudy, tmp_path):
    words = understudy("doctor", "--json", "--data-dir", tmp_path / "data").stdout
    assert not [finding for finding in json.loads(words) if finding["state"] == "fail"]
    assert _find(words, "Understudy")[0]["detail"] == __version__
    assert torch.__version__ in _find(words, "PyTorch")[0]["detail"]
    assert "toon" in _find(words, "Engine")[0]["detail"]
    assert not (tmp_path / "data").exists()


def test_the_database_of_a_running_service(understudy, service):
    words = understudy("doctor", "--json", "--data-dir", service.data_dir).stdout
    assert "revision" in _find(words, "Database")[0]["detail"]


def test_what_fails_is_told_with_what_mends_it(understudy, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    words = understudy(
        *("doctor", "--json", "--data-dir", tmp_path / "file" / "data"),
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


def test_weights_that_would_be_downloaded_are_a_warning(understudy, tmp_path):
    (tmp_path / "sdxl").mkdir()
    words = understudy(
        "doctor", "--json", engine="sdxl", sdxl_model=tmp_path / "sdxl", sdxl_vae="nobody/nothing"
    ).stdout
    states = {finding["detail"].split(":")[0]: finding["state"] for finding in _find(words, "Engine")}
    assert states["UNDERSTUDY_SDXL_MODEL"] == "ok"
    assert states["UNDERSTUDY_SDXL_VAE"] == "warn"


def test_for_people_every_line_has_its_state(understudy, tmp_path):
    lines = understudy("doctor", "--data-dir", tmp_path).stdout.splitlines()
    assert sum(line.startswith(("ok", "warn", "fail")) for line in lines) >= 8


def test_a_pipe_gets_every_command_on_one_line(understudy, tmp_path):
    asked = ("doctor", "--data-dir", tmp_path)
    findings = json.loads(understudy(*asked, "--json").stdout)
    lines = understudy(*asked, columns=40).stdout.splitlines()
    assert len(lines) == sum(1 + (finding["remedy"] is not None) for finding in findings)
    for finding in findings:
        # What is free on the disk may have changed in between.
        if finding["name"] != "Disk":
            assert any(line.endswith(finding["remedy"] or finding["detail"]) for line in lines)


def test_a_setting_that_is_none_is_told_with_the_nearest(understudy, tmp_path):
    words = understudy("doctor", "--json", "--data-dir", tmp_path, sdxl_modle="x").stdout
    (finding,) = _find(words, "Setting")
    assert finding["state"] == "warn"
    assert "UNDERSTUDY_SDXL_MODLE" in finding["detail"]
    assert "UNDERSTUDY_SDXL_MODEL?" in finding["detail"]


def test_a_folder_of_weights_that_is_not_there_fails(understudy, tmp_path):
    words = understudy("doctor", "--json", engine="sdxl", sdxl_model=tmp_path / "nothing", status=1).stdout
    (finding,) = [finding for finding in _find(words, "Engine") if finding["state"] == "fail"]
    assert "UNDERSTUDY_SDXL_MODEL" in finding["detail"]


def test_a_device_that_is_not_there_fails(understudy, tmp_path):
    words = understudy("doctor", "--json", "--data-dir", tmp_path, device="cuda:99", status=1).stdout
    assert "fail" in [finding["state"] for finding in _find(words, "Device")]
