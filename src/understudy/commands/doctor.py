"""`understudy doctor`: what this machine has, what is missing, and the command that mends it.

PyTorch is asked in a process of its own: importing it takes seconds and may fail in ways that
must not end the doctor.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .options import DataDir, Engine, Json, name_unknown_settings, read_settings

if TYPE_CHECKING:
    from ..settings import Settings

OK, WARN, FAIL = "ok", "warn", "fail"

SDXL_SOURCES = ("sdxl_model", "sdxl_controlnet", "sdxl_ip_adapter", "sdxl_vae")
"""Settings that name weights, each a folder or a hub id."""

LEAST_DISK_BYTES = 1_000_000_000
"""Below this much free space the doctor warns: pictures and the database grow."""

_ASK_TORCH = """
import json, torch
devices = [{"name": "cpu", "threads": torch.get_num_threads()}]
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append({"name": f"cuda:{index}", "title": torch.cuda.get_device_name(index),
                        "free": free, "total": total})
elif torch.backends.mps.is_available():
    devices.append({"name": "mps", "title": "Apple GPU"})
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices}))
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's: `state` is ok, warn or fail; `remedy` a command, or None."""

    name: str
    state: str
    detail: str
    remedy: str | None = None


def doctor(
    data_dir: DataDir = None,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Say what this machine has, what is missing, and the command that mends it.

    Ends with status 1 when something fails.
    """
    settings = read_settings(data_dir=data_dir, engine=engine)
    findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    if any(finding.state == FAIL for finding in findings):
        raise typer.Exit(1)


def _print_findings(findings: list[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from .tables import print_table

    colours = {OK: "green", WARN: "yellow", FAIL: "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        table.add_row(f"[{colours[finding.state]}]{finding.state}[/]", finding.name, escape(finding.detail))
        if finding.remedy:
            table.add_row("", "", f"[dim]mend it with:[/] {escape(finding.remedy)}")
    print_table(table)


def _check_python(settings: Settings) -> Iterator[Finding]:
    from .. import __version__

    yield Finding(
        name="Python", state=OK, detail=f"{platform.python_version()} on {platform.platform(terse=True)}"
    )
    yield Finding(name="Understudy", state=OK, detail=__version__)


def _check_environment(settings: Settings) -> Iterator[Finding]:
    for sentence in name_unknown_settings():
        yield Finding(name="Setting", state=WARN, detail=sentence)


def find_missing_device(settings: Settings) -> str | None:
    """A sentence when the device that the settings name is not there; PyTorch is asked, for seconds."""
    for finding in _check_torch(settings):
        if finding.state == FAIL:
            return f"{finding.name}: {finding.detail}; mend it with: {finding.remedy}."
    return None


def find_missing_weights(settings: Settings) -> str | None:
    """A sentence when a folder of SDXL weights that the settings name is not there."""
    if settings.engine == "sdxl":
        for name in SDXL_SOURCES:
            source = getattr(settings, name)
            if source and _names_folder(source) and not Path(source).is_dir():
                return f"UNDERSTUDY_{name.upper()} names the folder {source!r}, which is not there."
    return None


def _names_folder(source: str) -> bool:
    """Whether a source of weights is written as a folder and not as a hub id (`owner/name`)."""
    return source.startswith((".", "~")) or Path(source).is_absolute()


def _check_torch(settings: Settings) -> Iterator[Finding]:
    remedy = 'pip install "understudy[server]"'
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        yield Finding(name="PyTorch", state=FAIL, detail="takes over two minutes to load", remedy=remedy)
        return
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or [f"ended with status {asked.returncode}"])[-1]
        yield Finding(name="PyTorch", state=FAIL, detail=f"cannot be imported: {last}", remedy=remedy)
        return
    torch = json.loads(asked.stdout.splitlines()[-1])
    build = f"for CUDA {torch['cuda']}" if torch["cuda"] else "for CPUs"
    yield Finding(name="PyTorch", state=OK, detail=f"{torch['version']}, {build}")
    yield from _check_devices(settings, torch)


def _check_devices(settings: Settings, torch: dict[str, Any]) -> Iterator[Finding]:
    accelerators = torch["devices"][1:]
    if accelerators and not _has_device(settings.device, accelerators):
        yield Finding(
            name="Device",
            state=FAIL,
            detail=f"UNDERSTUDY_DEVICE is {settings.device}, which this machine does not have",
            remedy="unset UNDERSTUDY_DEVICE",
        )
    for device in accelerators:
        memory = f", {_size(device['free'])} of {_size(device['total'])} free" if "free" in device else ""
        yield Finding(name="Device", state=OK, detail=f"{device['name']}: {device['title']}{memory}")
    if accelerators:
        return
    threads = torch["devices"][0]["threads"]
    wants_gpu = settings.device.startswith(("cuda", "mps")) or settings.engine == "sdxl"
    if shutil.which("nvidia-smi") and not torch["cuda"]:
        yield Finding(
            name="Device",
            state=FAIL if settings.device.startswith("cuda") else WARN,
            detail="there is an NVIDIA driver, but this build of PyTorch is for CPUs only",
            remedy="install PyTorch's CUDA build as its own install page says",
        )
    elif settings.device.startswith(("cuda", "mps")):
        yield Finding(
            name="Device",
            state=FAIL,
            detail=f"UNDERSTUDY_DEVICE is {settings.device}, which this machine does not have",
            remedy="unset UNDERSTUDY_DEVICE",
        )
    else:
        words = "; SDXL takes many minutes a picture on it" if wants_gpu else ", enough for the engine toon"
        yield Finding(name="Device", state=WARN if wants_gpu else OK, detail=f"CPU, {threads} threads{words}")


def _has_device(device: str, accelerators: list[dict[str, Any]]) -> bool:
    names = {accelerator["name"] for accelerator in accelerators}
    return device in ("auto", "cpu", *names) or (device == "cuda" and "cuda:0" in names)


def _check_engine(settings: Settings) -> Iterator[Finding]:
    if settings.engine == "toon":
        yield _check_toon()
    elif settings.engine == "sdxl":
        for name in SDXL_SOURCES:
            if source := getattr(settings, name):
                yield _check_weights(name, source)
    else:
        yield Finding(name="Engine", state=OK, detail="null, which needs no weights")


def _check_toon() -> Finding:
    try:
        toon = version("understudy-toon")
    except PackageNotFoundError:
        return Finding(
            name="Engine",
            state=FAIL,
            detail="toon's weights are not installed",
            remedy="pip install understudy-toon",
        )
    from understudy_toon import checkpoint_path

    folder = checkpoint_path()
    if not (folder / "model_index.json").is_file():
        return Finding(
            name="Engine",
            state=FAIL,
            detail=f"toon's weights are not complete in {folder}",
            remedy="pip install --force-reinstall --no-deps understudy-toon",
        )
    return Finding(name="Engine", state=OK, detail=f"toon {toon}, weights in {folder}")


def _check_weights(name: str, source: str) -> Finding:
    """Whether a source of SDXL weights, a folder or a hub id, is on this machine."""
    setting = f"UNDERSTUDY_{name.upper()}"
    if Path(source).is_dir():
        return Finding(name="Engine", state=OK, detail=f"{setting}: {source}")
    if _names_folder(source):
        return Finding(
            name="Engine",
            state=FAIL,
            detail=f"{setting} names the folder {source}, which is not there",
            remedy=f"set {setting} to a folder that is, or to a hub id",
        )
    from huggingface_hub import constants

    cached = Path(constants.HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"
    if cached.is_dir():
        return Finding(name="Engine", state=OK, detail=f"{setting}: {source}, downloaded before")
    return Finding(
        name="Engine",
        state=WARN,
        detail=f"{setting}: {source} is not on this machine; the first start downloads it",
        remedy=f"hf download {source}, or set {setting} to a folder",
    )


def _check_pose_reader(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("rtmlib") is None:
        yield Finding(
            name="Pose reader",
            state=WARN,
            detail="rtmlib is not installed; poses out of photographs need it, skeletons and names do not",
            remedy='pip install "understudy[pose]"',
        )
    else:
        yield Finding(name="Pose reader", state=OK, detail=f"rtmlib {version('rtmlib')}")


def _check_disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    probe = existing / ".understudy-doctor"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield Finding(
            name="Data folder",
            state=FAIL,
            detail=f"{folder} cannot be written ({error.strerror})",
            remedy="name another folder with --data-dir or UNDERSTUDY_DATA_DIR",
        )
        return
    made = "" if folder.exists() else ", made by the first start"
    yield Finding(name="Data folder", state=OK, detail=f"{folder}{made}")
    free = shutil.disk_usage(existing).free
    yield Finding(name="Disk", state=OK if free > LEAST_DISK_BYTES else WARN, detail=f"{_size(free)} free")


def _check_database(settings: Settings) -> Iterator[Finding]:
    from alembic.script import ScriptDirectory

    path = settings.data_dir / "understudy.sqlite3"
    if not path.exists():
        yield Finding(name="Database", state=OK, detail="none yet; the first start makes it")
        return
    newest = ScriptDirectory(str(files("understudy") / "migrations")).get_current_head()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        try:
            (current,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        except (sqlite3.DatabaseError, TypeError) as error:
            yield Finding(
                name="Database",
                state=FAIL,
                detail=f"{path} cannot be read ({error})",
                remedy="name another folder with --data-dir, or restore this one from a backup",
            )
            return
    if current == newest:
        yield Finding(name="Database", state=OK, detail=f"revision {current}")
    else:
        yield Finding(
            name="Database",
            state=WARN,
            detail=f"revision {current}, this version writes {newest}",
            remedy="understudy serve, which brings it up to date",
        )


def _check_decoder(settings: Settings) -> Iterator[Finding]:
    import uvloop

    from ..decoder import PictureDecoder

    async def decode() -> None:
        decoder = PictureDecoder.from_settings(settings)
        try:
            await decoder.decode(_smallest_picture())
        finally:
            await decoder.close()

    try:
        uvloop.run(decode())
    except Exception as error:
        yield Finding(
            name="Decoder",
            state=FAIL,
            detail=f"the process that reads pictures does not work: {error}",
            remedy="set UNDERSTUDY_DECODER_MEMORY_BYTES higher",
        )
    else:
        yield Finding(name="Decoder", state=OK, detail="the process that reads pictures starts")


def _smallest_picture() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


def _check_public_url(settings: Settings) -> Iterator[Finding]:
    url = settings.public_url
    if url is None:
        yield Finding(
            name="Public URL", state=OK, detail="not set; URLs in answers begin as the request's own did"
        )
    elif url.startswith(("http://", "https://")):
        yield Finding(name="Public URL", state=OK, detail=url)
    else:
        yield Finding(
            name="Public URL",
            state=FAIL,
            detail=f"{url!r} is no http(s) address",
            remedy=f"set UNDERSTUDY_PUBLIC_URL to https://{url}",
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _check_python,
    _check_environment,
    _check_torch,
    _check_engine,
    _check_pose_reader,
    _check_disk,
    _check_database,
    _check_decoder,
    _check_public_url,
)
