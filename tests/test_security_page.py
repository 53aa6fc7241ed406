"""`docs/security.md` names for each promise the tests that hold it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
PROMISES = re.findall(
    r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", PAGE.split("## What is promised")[1], re.MULTILINE
)
PROMISES = [(promise, tests) for promise, tests in PROMISES if "`tests/" in tests]

TESTS = re.compile(r"^(async )?def test_|^Test\w+ = ", re.MULTILINE)


def test_every_row_of_the_table_names_its_tests():
    table = PAGE.split("## What is promised")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(PROMISES) > 15


@pytest.mark.parametrize(("promise", "tests"), PROMISES, ids=[promise[:40] for promise, _ in PROMISES])
def test_the_tests_of_a_promise_are_there(promise, tests):
    for name in re.findall(r"`(tests/[^`]+)`", tests):
        files = [ROOT / name] if name.endswith(".py") else sorted((ROOT / name).glob("test_*.py"))
        assert files, name
        for file in files:
            assert TESTS.search(file.read_text()), file


def test_what_else_the_page_names_is_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`", PAGE)) <= targets
    for file in re.findall(r"(?:python|pytest) ((?:tests|benchmarks)/\w[\w/]*\.py)", PAGE):
        assert (ROOT / file).is_file(), file
    for target in re.findall(r"\]\(([^)#]*)(?:#[\w-]*)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
