"""`docs/errors.md` has every stable code, and none that there is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import understudy
from understudy.errors import UnderstudyError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "errors.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE))

NAMES = ("code", "error_code", "default_code")
FAILURES = ("Error", "Failed", "Failure", "Lost", "Refused")


def test_the_page_has_every_code_of_the_source_and_no_other():
    found = {
        code for file in (ROOT / "src").rglob("*.py") for code in _find_codes(ast.parse(file.read_text()))
    }
    assert set(ROWS) == found


@pytest.mark.parametrize(
    "error",
    [
        error
        for error in vars(understudy).values()
        if isinstance(error, type)
        and issubclass(error, UnderstudyError)
        and error.http_status not in (422, 500)
    ],
    ids=lambda error: error.__name__,
)
def test_the_page_has_the_status_of_a_class(error):
    assert str(error.http_status) in ROWS[error.default_code]


def test_the_tree_of_errors_has_every_answer_of_the_service():
    answers = PAGE.partition("## Answers of the service")[2].partition("\n## ")[0]
    codes = re.findall(r"^\| `(\w+)` \|", answers, re.MULTILINE)
    assert len(codes) > 20
    assert [code for code in codes if code not in str(understudy.errors.__doc__)] == []


def _find_codes(module: ast.Module) -> Iterator[str]:
    """What is given as a code: by name, as a default, or as a plain argument of a failure."""
    for node in ast.walk(module):
        match node:
            case ast.keyword(arg=name, value=value) if name in NAMES:
                yield from _literals(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if name in NAMES and value:
                yield from _literals(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in NAMES:
                yield from _literals(value)
            case ast.arguments(args=arguments, defaults=[*defaults]):
                for argument, value in zip(reversed(arguments), reversed(defaults), strict=False):
                    if argument.arg in NAMES:
                        yield from _literals(value)
            case ast.Call(func=ast.Name(id=name), args=given) if name.endswith(FAILURES):
                for value in given:
                    yield from _literals(value)


def _literals(value: ast.expr) -> Iterator[str]:
    for literal in value.values if isinstance(value, ast.BoolOp) else [value]:
        if isinstance(literal, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)*", str(literal.value)):
            yield literal.value
