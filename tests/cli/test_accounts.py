"""`understudy accounts` and `understudy credits`, beside a running service and without one."""

from __future__ import annotations

import json
import sqlite3
import time

import httpx2


def test_accounts_are_opened_listed_disabled_and_enabled(understudy, service):
    folder = ("--data-dir", service.data_dir)
    understudy("accounts", "create", "atelier", *folder)
    key = understudy("keys", "create", "--account", "atelier", *folder).stdout.splitlines()[-1]

    def wait_for(status):
        deadline = time.monotonic() + 20
        while httpx2.get(f"{service.url}/v1/models", headers={"x-api-key": key}).status_code != status:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    wait_for(200)
    understudy("accounts", "disable", "atelier", *folder)
    wait_for(403)
    listed = json.loads(understudy("accounts", "list", "--json", *folder).stdout)
    assert [one["name"] for one in listed if one["disabled_at"]] == ["atelier"]
    assert "account disabled" in understudy("keys", "list", *folder).stdout
    understudy("accounts", "enable", "atelier", *folder)
    wait_for(200)
    done = understudy("accounts", "create", "atelier", *folder, status=1)
    assert "already" in done.stderr


def test_credits_are_granted_taken_back_and_shown(understudy, tmp_path):
    folder = ("--data-dir", tmp_path)
    understudy("accounts", "create", "atelier", *folder)
    assert "has 12.5 credits" in understudy("credits", "grant", "atelier", "12.5", *folder).stdout
    done = understudy("credits", "grant", "atelier", "-2.500001", "--note", "a mistake", *folder)
    assert "has 9.999999 credits" in done.stdout
    words = understudy("credits", "show", "atelier", *folder).stdout
    assert words.startswith("9.999999 credits\n")
    assert "a mistake" in words
    shown = json.loads(understudy("credits", "show", "atelier", "--json", *folder).stdout)
    assert [entry["amount_microcredits"] for entry in shown["entries"]] == [-2_500_001, 12_500_000]
    for amount in ("-10", "much", "0.0000001"):
        understudy("credits", "grant", "atelier", amount, *folder, status=2)
    assert "no account" in understudy("credits", "grant", "nobody", "1", *folder, status=1).stderr


def test_a_ledger_that_does_not_add_up_is_found(understudy, tmp_path):
    folder = ("--data-dir", tmp_path)
    understudy("accounts", "create", "atelier", *folder)
    understudy("credits", "grant", "atelier", "5", *folder)
    assert "Every balance" in understudy("credits", "check", *folder).stdout
    with sqlite3.connect(tmp_path / "understudy.sqlite3") as database:
        database.execute("UPDATE accounts SET balance_microcredits = 7000000")
    done = understudy("credits", "check", *folder, status=1)
    assert "atelier: 7 credits, but 5 by the ledger." in done.stdout


def test_a_key_is_made_with_scopes_models_an_end_and_limits(understudy, tmp_path):
    understudy(
        *(
            "keys",
            "create",
            "--data-dir",
            tmp_path,
            "--scopes",
            "read, admin",
            "--models",
            "understudy-toon,understudy-sdxl",
        ),
        *("--expires-in-days", "2", "--submits-per-minute", "5", "--concurrent-jobs", "0"),
    )
    (key,) = json.loads(understudy("keys", "list", "--json", "--data-dir", tmp_path).stdout)
    assert (key["scopes"], key["models"]) == (["read", "admin"], ["understudy-toon", "understudy-sdxl"])
    assert (key["submits_per_minute"], key["concurrent_jobs"]) == (5, 0)
    assert 2 * 86400 - 60 < key["expires_at"] - key["created_at"] < 2 * 86400 + 60
    assert "expires" in understudy("keys", "list", "--data-dir", tmp_path).stdout
    done = understudy("keys", "create", "--data-dir", tmp_path, "--scopes", "all", status=2)
    assert "generate, read, admin" in done.stderr
