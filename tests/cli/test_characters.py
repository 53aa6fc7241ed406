"""`understudy characters`, and what else is asked with a character's name."""

import json

import pytest
from PIL import Image

from service_client import make_key


@pytest.fixture
def ask(understudy, service):
    """`understudy` with a key of an account of its own, which has no characters yet."""
    key = make_key(service, "artist")

    def run(*arguments, **options):
        return understudy(*arguments, api_key=key, base_url=f"{service.url}/v1", **options)

    return run


def test_a_character_is_saved_changed_drawn_and_deleted(ask, picture_path, tmp_path):
    side = tmp_path / "side.png"
    Image.new("RGB", (64, 64), "navy").save(side)
    told = ask(
        *("characters", "save", "neo 1", "--ip-image", picture_path, "--ip-image", side),
        *("--prompt", "neo, long coat"),
    ).stdout
    assert told == "neo 1: 2 pictures; give it as --ip-image 'character:neo 1'\n"
    (listed,) = json.loads(ask("characters", "list", "--json").stdout)
    assert (listed["name"], listed["prompt"], len(listed["urls"])) == ("neo 1", "neo, long coat", 2)
    table = ask("characters", "list").stdout.splitlines()
    assert len(table) == 2
    assert "neo, long coat" in table[1]
    small = ("--width", 256, "--height", 256)
    drawn = ask("generate", "--ip-image", "character:neo 1", *small, "--json").stdout
    assert json.loads(drawn)["prompt"] == "neo, long coat"
    ask("sheet", "--ip-image", "character:neo 1", *small, "--poses", "wave,run")
    assert (tmp_path / "sheet.png").exists()

    change = ("--new-name", "neo", "--negative-prompt", "hat", "--remove-ip-image", 1, "--add-ip-image", side)
    told = json.loads(ask("characters", "update", "neo 1", *change, "--json").stdout)
    assert (told["name"], told["prompt"], told["negative_prompt"]) == ("neo", "neo, long coat", "hat")
    assert told["urls"][0] == listed["urls"][1]
    assert len(told["urls"]) == 2
    shown = ask("characters", "show", "neo").stdout
    assert "Negative prompt: hat" in shown
    assert f"1  {told['urls'][0]}\n2  {told['urls'][1]}" in shown
    told = ask("characters", "update", "neo", "--ip-image", picture_path).stdout
    assert told == "neo: 1 picture; give it as --ip-image character:neo\n"
    assert ask("characters", "delete", "neo").stdout == "Deleted 'neo'.\n"
    assert "There is no character named" in ask("characters", "show", "neo", status=1).stderr
    assert json.loads(ask("characters", "list", "--json").stdout) == []


def test_a_mistake_is_one_sentence(ask, picture_path):
    ask("characters", "save", "neo", "--ip-image", picture_path)
    for arguments, words in (
        (("generate", "--ip-image", "character:neo"), "prompt is required"),
        (("generate", "--ip-image", picture_path), "prompt is required"),
        (("characters", "save", "trin", "--ip-image", "missing.png"), "missing.png"),
        (("characters", "save", "a/b", "--ip-image", picture_path), "name"),
        (("characters", "update", "neo"), "what to change"),
        (("characters", "update", "neo", "--remove-ip-image", 2), "from 1 to 1"),
        (("characters", "update", "neo", "--ip-image", picture_path, "--remove-ip-image", 1), "leave out"),
    ):
        done = ask(*arguments, status=2)
        assert words in done.stderr, arguments
        assert done.stderr.count("\n") == 1
    done = ask("characters", "save", "neo", "--ip-image", picture_path, status=1)
    assert "already" in done.stderr
    assert "another name" in done.stderr


def test_a_wrong_key_says_where_a_key_comes_from(understudy, service):
    done = understudy("characters", "list", base_url=service.url, api_key="us_nobody", status=1)
    assert "understudy keys create" in done.stderr
    assert "us_nobody" not in done.stderr
