"""The built wheels, as somebody gets them who never saw this repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {"understudy": ROOT, "understudy_toon": ROOT / "models" / "toon"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, built from a copy of what git would hand out."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, source in DISTRIBUTIONS.items():
        copy = tmp_path_factory.mktemp(name)
        for part in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(source / part, copy)
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(source / "src", copy / "src", ignore=ignored)
        _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, copy)
    return {path.name.split("-")[0]: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def clean_python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment: our wheels, and the dependencies that are installed here.

    The dependencies are seen through a link for each, so that nothing of this checkout (which is
    installed here in place) can be imported by it.
    """
    folder = tmp_path_factory.mktemp("environment")
    python = _make_environment(folder)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        ours = entry.name.lower().startswith(("understudy", "__editable__"))
        if not ours and entry.suffix != ".pth" and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    _pip("install", "--no-deps", "--no-index", *wheels.values(), python=python)
    return python


def test_the_wheels_hold_what_they_need_and_nothing_else(wheels):
    assert set(wheels) == set(DISTRIBUTIONS)
    for name, wheel in wheels.items():
        listed = subprocess.run(
            [sys.executable, "-m", "zipfile", "-l", str(wheel)], capture_output=True, text=True, check=True
        ).stdout
        names = {line.split()[0] for line in listed.splitlines()[1:]}
        tops = {entry.split("/")[0] for entry in names}
        assert {top for top in tops if not top.endswith(".dist-info")} == {name}
        assert any(entry.endswith("licenses/LICENSE") for entry in names)
        assert f"{name}/py.typed" in names


@pytest.mark.slow
def test_a_picture_is_served_from_a_clean_environment(clean_python, picture_path, tmp_path):
    where = _run(
        clean_python, "-c", "import understudy, understudy_toon; print(understudy.__file__)", cwd=tmp_path
    )
    assert str(clean_python.parents[1]) in where
    understudy = clean_python.with_name("understudy")
    with _serve(understudy, tmp_path) as (url, key):
        _run(
            understudy,
            *("generate", "--ip-image", picture_path, "--prompt", "a knight", "--pose", "wave"),
            *("--steps", "2", "--width", "256", "--height", "256", "-o", "knight.png"),
            cwd=tmp_path,
            UNDERSTUDY_API_KEY=key,
            UNDERSTUDY_BASE_URL=url,
        )
    picture = (tmp_path / "knight.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert b"toon" in picture


def test_the_sdk_needs_no_more_than_its_two_dependencies(wheels, tmp_path):
    python = _make_environment(tmp_path / "environment")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "environment")}))
    for name in _with_requirements("httpx2", "pydantic"):
        _link_distribution(name, site)
    _pip("install", "--no-deps", "--no-index", wheels["understudy"], python=python)
    _run(python, "-c", "import understudy; understudy.Client()", cwd=tmp_path)
    done = subprocess.run(
        [python.with_name("understudy"), "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert 'pip install ./models/toon ".[server]"' in done.stderr


def _with_requirements(*names: str) -> set[str]:
    """Distributions and everything that they need, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            requirements = [Requirement(text) for text in distribution(name).requires or ()]
            waiting += [
                one.name for one in requirements if not one.marker or one.marker.evaluate({"extra": ""})
            ]
    return found


def _link_distribution(name: str, site: Path) -> None:
    here = Path(sysconfig.get_path("purelib"))
    for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
        (site / top).symlink_to(here / top)


@contextmanager
def _serve(understudy: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """The URL and the key of a service of an installed `understudy`, in a folder of its own."""
    process = subprocess.Popen(
        [understudy, "serve", "--port", "0", "--data-dir", "data"],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        key = ""
        for line in process.stdout:
            if found := re.search(r"us_\S+", line):
                key = found[0]
            if found := re.search(r"listens on (\S+)", line):
                yield found[1], key
                break
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _make_environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def _pip(*arguments: object, python: Path | None = None) -> None:
    target = ["--python", str(python)] if python else []
    command = [sys.executable, "-m", "pip", "--quiet", *target, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _run(program: Path, *arguments: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [program, *map(str, arguments)],
        cwd=cwd,
        env={**_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    """The environment without what would lead a Python back to this checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
