"""`understudy serve`: start, refuse to start, stop."""

import os
import signal
import socket
import subprocess
import sys

import httpx2

from understudy.settings import Settings


def test_the_first_start_makes_a_key_that_works_and_the_second_makes_none(start_service, tmp_path):
    service = start_service(data_dir=tmp_path, engine="null")
    assert httpx2.get(f"{service.url}/v1/requests", headers={"x-api-key": service.key}).status_code == 200
    assert service.stop() == 0
    again = start_service(data_dir=tmp_path, engine="null")
    assert again.key == ""
    assert httpx2.get(f"{again.url}/v1/requests", headers={"x-api-key": service.key}).status_code == 200
    assert again.stop() == 0


def test_a_data_folder_in_use_is_refused_in_one_sentence(understudy, service):
    done = understudy("serve", "--port", 0, "--data-dir", service.data_dir, status=1)
    assert str(service.data_dir) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_refused_in_one_sentence(understudy, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = understudy("serve", "--port", taken.getsockname()[1], "--data-dir", tmp_path, status=1)
    assert "--port" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_host_is_refused(understudy, tmp_path):
    assert "--host" in understudy("serve", "--host", "no such host", status=1).stderr


def test_a_wrong_setting_is_named(understudy):
    assert "UNDERSTUDY_QUEUE_LIMIT" in understudy("serve", queue_limit=0, status=1).stderr


def test_a_term_that_would_be_no_rule_is_refused(understudy, tmp_path):
    for terms, words in (("gun, !!!", "'!!!' has no letter"), ("child + ", "'child +' has no letter")):
        done = understudy("serve", "--data-dir", tmp_path, block_terms=terms, status=1)
        assert "UNDERSTUDY_BLOCK_TERMS is not valid" in done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert Settings(block_terms="gun*, child + gun, 銃, taking off ... coat, 7, ").block_terms


def test_an_engine_that_there_is_not_is_told_with_those_there_are(understudy):
    done = understudy("serve", "--engine", "oil", status=2)
    assert "--engine" in done.stderr
    assert "'toon', 'sdxl', 'qwen-edit', 'flux2-klein' or 'null'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "toon|sdxl|qwen-edit|flux2-klein|null" in understudy("serve", "--help").stdout


def test_a_folder_of_weights_that_is_not_there_is_refused(understudy, tmp_path):
    done = understudy("serve", engine="sdxl", sdxl_vae="./nothing", status=1)
    assert "UNDERSTUDY_SDXL_VAE names the folder './nothing'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picture_classifier_that_is_not_there_is_named(understudy, tmp_path, monkeypatch):
    """It is fetched with an engine that needs nothing else."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    done = understudy("serve", "--engine", "null", block_pictures="true", status=1)
    assert "The picture classifier of null (Falconsai/nsfw_image_detection)" in done.stderr
    assert "understudy fetch null" in done.stderr


def test_what_is_no_setting_is_told(understudy):
    # The engine that is refused ends the start.
    done = understudy("serve", foo=1, data_dri="x", engine="sdxl", sdxl_model="/no where", status=1)
    assert "UNDERSTUDY_FOO is no setting and was ignored." in done.stderr
    assert (
        "UNDERSTUDY_DATA_DRI is no setting and was ignored; did you mean UNDERSTUDY_DATA_DIR?" in done.stderr
    )


def test_a_device_that_is_not_there_is_told(tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "understudy.cli", "serve"),
            *("--port", "0", "--data-dir", str(tmp_path), "--engine", "null"),
        ],
        env={**os.environ, "UNDERSTUDY_DEVICE": "cuda:99"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    words = process.stderr.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert words.startswith("Warning: ")
    assert process.returncode == 0


def test_a_damaged_database_is_one_sentence(understudy, tmp_path):
    understudy("keys", "create", "--data-dir", tmp_path)
    file = tmp_path / "understudy.sqlite3"
    whole = file.read_bytes()
    for damaged in (b"Once upon a time. " * 100, whole[:4096] + b"\xff" * (len(whole) - 4096)):
        file.write_bytes(damaged)
        done = understudy("serve", "--port", 0, "--data-dir", tmp_path, status=1)
        assert "is damaged" in done.stderr
        assert "backup" in done.stderr
        assert done.stderr.count("\n") == 1


def test_sigterm_while_a_listener_holds_its_line_ends_the_service_with_status_0(start_service):
    service = start_service(engine="null", shutdown_grace_seconds=5)
    with socket.create_connection(("127.0.0.1", httpx2.URL(service.url).port)):
        assert service.stop() == 0


def test_ctrl_c_ends_it_without_a_traceback(tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "understudy.cli", "serve"),
            *("--port", "0", "--data-dir", str(tmp_path), "--engine", "null"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "listens on" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == ""


def test_weights_whose_licence_is_not_accepted_are_not_served(understudy, tmp_path, monkeypatch):
    """Nothing is fetched or loaded for it; accepted, the next thing that it lacks is told."""
    weights = {"engines": "flux2-klein", "flux2_klein_model": "black-forest-labs/FLUX.2-klein-9B"}
    done = understudy("serve", "--engine", "null", "--data-dir", tmp_path, **weights, status=1)
    for words in (
        weights["flux2_klein_model"],
        "FLUX Non-Commercial License",
        "UNDERSTUDY_ACCEPTED_LICENCES",
    ):
        assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    accepted = {"accepted_licences": "FLUX Non-Commercial License"}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    done = understudy("serve", "--engine", "null", "--data-dir", tmp_path, **weights, **accepted, status=1)
    assert "UNDERSTUDY_ACCEPTED_LICENCES" not in done.stderr
    assert "understudy fetch flux2-klein" in done.stderr
