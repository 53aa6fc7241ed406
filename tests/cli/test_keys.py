"""`understudy keys`, beside a running service and without one."""

import json
import time

import httpx2
import pytest


def _ask(url, key):
    """The HTTP status that a key gets."""
    return httpx2.get(f"{url}/v1/requests", headers={"x-api-key": key}).status_code


def test_a_made_key_stands_alone_on_the_last_line_and_works_at_once(understudy, service):
    made = understudy("keys", "create", "--data-dir", service.data_dir, "--name", "painter")
    key = made.stdout.splitlines()[-1]
    assert key.startswith("us_")
    assert _ask(service.url, key) == 200


def test_a_revoked_key_works_no_more(understudy, service):
    key = understudy("keys", "create", "--data-dir", service.data_dir).stdout.splitlines()[-1]
    understudy("keys", "revoke", key[:10], "--data-dir", service.data_dir)
    listed = json.loads(understudy("keys", "list", "--json", "--data-dir", service.data_dir).stdout)
    deadline = time.monotonic() + 10
    while _ask(service.url, key) != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (row,) = [row for row in listed if row["prefix"] == key[:10]]
    assert row["revoked_at"] is not None


def test_the_list_shows_prefixes_and_never_a_key(understudy, tmp_path):
    key = understudy("keys", "create", "--data-dir", tmp_path, "--name", "ink").stdout.splitlines()[-1]
    words = understudy("keys", "list", "--data-dir", tmp_path).stdout
    assert key[:10] in words
    assert "ink" in words
    assert key not in words


@pytest.mark.parametrize("coloured", [False, True], ids=["to a pipe", "to a terminal"])
def test_a_name_that_a_stranger_chose_is_only_shown(understudy, tmp_path, monkeypatch, coloured):
    """Names of keys come from whoever has one, the list is the operator's."""
    names = ["no [/end] of it", "[red]red[/red]", "title\x1b]0;owned\x07", "turned \u202eround", "two\nlines"]
    for name in names:
        understudy("keys", "create", "--data-dir", tmp_path, "--name", name)
    if coloured:
        monkeypatch.setenv("FORCE_COLOR", "1")
    shown = understudy("keys", "list", "--data-dir", tmp_path).stdout
    for words in (*names[:2], "title\ufffd]0;owned\ufffd", "turned \ufffdround", "two lines"):
        assert words in shown
    key = shown.splitlines()[3].split("...")[0]
    told = understudy("keys", "revoke", key, "--data-dir", tmp_path).stdout
    assert "Revoked us_" in told
    for text in (shown, told):
        assert not {"\x07", "\u202e"} & set(text)
        assert "\x1b]" not in text


def test_no_database_is_told_and_none_is_made(understudy, tmp_path):
    done = understudy("keys", "list", "--data-dir", tmp_path / "nowhere", status=1)
    assert "--data-dir" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_an_unknown_account_is_told(understudy, tmp_path):
    done = understudy("keys", "create", "--data-dir", tmp_path, "--account", "nobody", status=1)
    assert "no database" in done.stderr
    assert not list(tmp_path.iterdir())
    understudy("keys", "create", "--data-dir", tmp_path, "--name", "ink")
    done = understudy("keys", "create", "--data-dir", tmp_path, "--account", "no body", status=1)
    assert "`understudy keys create --name 'no body'` opens one" in done.stderr
    understudy("keys", "create", "--data-dir", tmp_path, "--account", "ink")


def test_a_new_database_is_told_with_its_folder(understudy, tmp_path):
    first, second = (understudy("keys", "create") for _ in range(2))
    for done in (first, second):
        assert str(tmp_path / "data") in done.stderr
        assert done.stdout.startswith("us_")
        assert done.stdout.count("\n") == 1
    assert "Warning" in first.stderr
    assert "Warning" not in second.stderr


def test_a_pipe_gets_every_id_on_one_line(understudy, tmp_path):
    understudy("keys", "create", "--data-dir", tmp_path, "--name", "a long name " * 5)
    (listed,) = json.loads(understudy("keys", "list", "--data-dir", tmp_path, "--json").stdout)
    lines = understudy("keys", "list", "--data-dir", tmp_path, columns=40).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(listed["id"])


def test_a_folder_that_cannot_be_made_is_one_sentence(understudy):
    done = understudy("keys", "create", "--data-dir", "/proc/nope", status=1)
    assert "/proc/nope" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_database_is_one_sentence(understudy, tmp_path):
    (tmp_path / "understudy.sqlite3").write_text("Once upon a time there was a file. " * 100)
    for command in (("create",), ("list",), ("revoke", "us_1234567")):
        done = understudy("keys", *command, "--data-dir", tmp_path, status=1)
        assert "not a database" in done.stderr
        assert "--data-dir" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_key_that_could_do_nothing_is_not_made(understudy, tmp_path):
    for options, words in (
        *((("--expires-in-days", days), "more than 0") for days in ("0", "nan", "inf")),
        (("--models", "consistent-character-AI-neolemon-v3,no-such"), "'no-such'"),
    ):
        done = understudy("keys", "create", "--data-dir", tmp_path, *options, status=2)
        assert words in done.stderr
    assert not list(tmp_path.iterdir())
