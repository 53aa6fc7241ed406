"""Services that tests talk to: real processes on real data folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from running_service import RunningService

# How long an example takes says more of the machine than of the code.
settings.register_profile("understudy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("understudy")


@pytest.fixture(scope="session")
def picture_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawing of a figure: a character reference that no network is needed for."""
    picture = Image.new("RGB", (256, 320), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((96, 20, 160, 90), fill="peachpuff", outline="black", width=3)
    draw.rectangle((100, 90, 156, 190), fill="firebrick", outline="black", width=3)
    draw.rectangle((104, 190, 124, 300), fill="navy", outline="black", width=3)
    draw.rectangle((132, 190, 152, 300), fill="navy", outline="black", width=3)
    path = tmp_path_factory.mktemp("pictures") / "figure.png"
    picture.save(path)
    return path


@pytest.fixture(scope="session")
def start_service(
    tmp_path_factory: pytest.TempPathFactory, picture_path: Path
) -> Iterator[Callable[..., RunningService]]:
    """Start services that end with the test run: `start_service(engine="null", **settings)`."""
    with ExitStack() as stack:

        def start(*, data_dir: Path | None = None, **settings: object) -> RunningService:
            folder = data_dir or tmp_path_factory.mktemp("data")
            service = RunningService(folder, picture_path, settings)
            stack.callback(service.stop)
            return service.start()

        yield start


@pytest.fixture(scope="session")
def service(start_service: Callable[..., RunningService]) -> RunningService:
    """A service with the null engine, which may fetch from loopback."""
    return start_service(engine="null", fetch_allowed_hosts="127.0.0.1")


@pytest.fixture(scope="session")
def billing_service(start_service: Callable[..., RunningService]) -> RunningService:
    """A service with the null engine whose pictures cost credits; its first key may do everything."""
    return start_service(engine="null", credits="on", bad_keys_per_minute=20, fetch_allowed_hosts="127.0.0.1")


@pytest.fixture(scope="session")
def toon_service(start_service: Callable[..., RunningService]) -> RunningService:
    """A service with the embedded engine, which may fetch from loopback."""
    return start_service(engine="toon", fetch_allowed_hosts="127.0.0.1")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith(("UNDERSTUDY_", "SEGMIND_"))]:
        del os.environ[name]
