"""What the README shows is what happens: its programs run, its settings are the settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from understudy.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    block
    for page in ("README.md", "docs/characters.md", "docs/sheets.md")
    for block in re.findall(
        r"^```(python|bash)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.parametrize("block", BLOCKS, ids=[language for language, _ in BLOCKS])
def test_a_program_of_the_readme_runs(block, service, tmp_path):
    language, text = block
    text = text.replace("http://127.0.0.1:8000", service.url)
    # Whether the usual port is free is this machine's affair.
    text = text.replace("understudy doctor", "understudy doctor --port 0")
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "young-man.png", tmp_path / "examples")
    program = tmp_path / f"program.{language}"
    program.write_text(text)
    runner = [sys.executable] if language == "python" else ["bash", "-euo", "pipefail"]
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [*runner, str(program)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(sys.prefix) / "segmind" / "1.3.0"),
            "UNDERSTUDY_API_KEY": service.key,
            "UNDERSTUDY_BASE_URL": f"{service.url}/v1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = [file for file in tmp_path.rglob("*.png") if file.parent.name != "examples"]
    assert made or service.url in done.stdout, done.stdout


def test_the_readme_has_programs_in_both_languages():
    assert {language for language, _ in BLOCKS} == {"python", "bash"}


@pytest.mark.parametrize("page", ["README.md", "docs/settings.md"])
def test_a_settings_table_tells_the_defaults(page):
    for name, default in _read_settings_table(page).items():
        expected = Settings.model_fields[name].default
        given = expected not in (None, "")
        shown = TypeAdapter(type(expected)).validate_python(default) if given else default or expected
        assert shown == expected, name


def test_the_settings_page_has_every_setting():
    assert set(_read_settings_table("docs/settings.md")) == set(Settings.model_fields)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            f"docs/{name}.md"
            for name in (
                "architecture",
                "characters",
                "engines/README",
                "engines/flux2-klein",
                "engines/likeness",
                "engines/qwen-edit",
                "engines/sdxl",
                "engines/speed",
                "engines/toon",
                "errors",
                "operations",
                "security",
                "settings",
                "webhooks",
            )
        ),
    ],
)
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_no_page_has_pip_look_for_the_name():
    """A package of that name is on the index, and is another project's."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    # Who is told so by a service has Understudy already, which pip then takes.
    pages.remove(ROOT / "docs" / "errors.md")
    for page in pages:
        assert not re.search(r"pip install\b[^`\n]*[ \"']understudy\b", page.read_text()), page


def _read_settings_table(page: str) -> dict[str, str]:
    """Setting (as a field's name) -> its default as the page shows it."""
    rows = re.findall(
        r"^\| `UNDERSTUDY_(\w+)` \| (?:`([^`]*)`)? ?\|", (ROOT / page).read_text(), re.MULTILINE
    )
    assert rows
    return {name.lower(): default for name, default in rows}
