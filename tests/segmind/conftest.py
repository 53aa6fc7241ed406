"""The official SDK, each version of it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from picture_host import PictureHost, serve_picture

VERSIONS = ("1.1.0", "1.3.0")


@pytest.fixture
def picture_host(service) -> Iterator[PictureHost]:
    """A host with the character's picture that the service may fetch from."""
    with serve_picture(Path(service.picture_path)) as host:
        yield host


def _run(program: str, *, path: Path | None = None, **environment: str) -> str:
    """Run a Python program in a fresh process and return what it printed.

    `path` is put before every other place of modules. No variable of this process that names
    a key or an address reaches the program.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("SEGMIND_", "UNDERSTUDY_"))
    }
    places = [str(path)] if path else []
    places += [place for place in [os.environ.get("PYTHONPATH")] if place]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env=inherited | environment | {"PYTHONPATH": os.pathsep.join(places)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_program() -> Callable[..., str]:
    """Runs a program in a fresh process, with nothing but the given environment of keys and addresses."""
    return _run


@pytest.fixture(params=VERSIONS)
def official(request: pytest.FixtureRequest, service) -> Callable[[str], str]:
    """Runs a program with one version of the official SDK, its key in the environment."""
    path = Path(sys.prefix) / "segmind" / request.param
    assert path.is_dir(), f"The official SDK {request.param} is not installed; run `make setup`."

    def run(program: str) -> str:
        version = f"import segmind; assert segmind.__version__ == {request.param!r}\n"
        address = f"BASE_URL = {service.url + '/v1'!r}\n"
        return _run(version + address + program, path=path, SEGMIND_API_KEY=service.key)

    return run
