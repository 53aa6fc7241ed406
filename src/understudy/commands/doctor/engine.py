"""What the doctor finds of each engine: whether it is ready, what it lacks, and the command that gets it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backup import is_in_use
from ...catalog import ENGINES
from ...errors import UnderstudyError
from .finding import FAIL, INFO, INSTALL, OK, WARN, Finding, describe_size

if TYPE_CHECKING:
    from ...settings import Settings
    from ...weights import Found

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "peft")
"""What every engine but null is drawn with."""
CPU_PARAMETER_BYTES = 4
"""A weight on a CPU has single precision."""


def find_missing_weights(settings: Settings) -> str | None:
    """A sentence when weights of an engine that the service is to draw with are not on this machine.

    A folder that is not there comes first: nothing that is fetched mends it.
    """
    from ...weights import find_part, list_parts

    parts = [part for engine in settings.served_engines for part in list_parts(settings, engine)]
    try:
        found = [find_part(settings, part) for part in parts]
    except UnderstudyError as error:
        return error.message
    for one in found:
        if one.part.names_folder and one.folder is None:
            return f"{one.part.variable} names the folder {one.part.place!r}, which is not there."
    for one in found:
        if not one.part.names_folder and one.state != "whole":
            engine = one.part.engine
            # An engine that needs no weights may want the picture classifier.
            lacking = f"The {one.part.name} of {engine} ({one.part.place}) is not on this machine"
            return f"{lacking}; run `understudy fetch {engine}`."
    return None


def check_engines(settings: Settings, device: dict[str, Any] | None) -> Iterator[Finding]:
    """A block for each engine: whether it is ready on a device (as `ask_torch` tells it), then what is known.

    What an engine lacks fails only where the service is to draw with it.
    """
    for engine in ENGINES:
        served = engine in settings.served_engines
        if engine == "null" and not served:
            continue
        block = [
            *_check_packages(engine),
            *_check_licence(settings, engine),
            *_check_weights(settings, engine),
            *_check_memory(settings, engine, device),
        ]
        lacking = [finding for finding in block if finding.state == FAIL]
        if lacking:
            named = " and ".join(finding.name.lower() for finding in lacking)
            head = Finding(
                name="Engine",
                state=FAIL,
                detail=f"{engine}: not ready, for {named}",
                remedy=lacking[0].remedy,
            )
        else:
            head = Finding(name="Engine", state=OK, detail=f"{engine}: ready")
        for finding in (head, *block):
            state = INFO if finding.state in (WARN, FAIL) and not served else finding.state
            yield replace(finding, engine=engine, state=state)


def _check_packages(engine: str) -> Iterator[Finding]:
    if engine == "null":
        return
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(
            name="Packages",
            state=FAIL,
            detail=f"{', '.join(missing)} not installed",
            remedy=INSTALL,
        )


def _check_licence(settings: Settings, engine: str) -> Iterator[Finding]:
    from ...licences import APACHE, explain_unaccepted, find_licence
    from ...weights import list_parts

    parts = list_parts(settings, engine)
    if refusal := explain_unaccepted(engine, [part.place for part in parts], settings.accepted):
        yield Finding(
            name="Licence",
            state=FAIL,
            detail=refusal.rstrip("."),
            remedy="read it, and set UNDERSTUDY_ACCEPTED_LICENCES",
        )
        return
    licences = {part.name: find_licence(part.place).name for part in parts}
    if engine == "toon":
        licences = {"model": APACHE.name, **licences}
    if licences:
        told = "; ".join(f"{name}: {licence}" for name, licence in licences.items())
        yield Finding(name="Licence", state=OK, detail=told)


def _check_weights(settings: Settings, engine: str) -> Iterator[Finding]:
    from ...weights import find_part, list_parts

    if engine == "toon":
        yield _check_toon()
    try:
        found = [find_part(settings, part) for part in list_parts(settings, engine)]
    except UnderstudyError as error:
        yield Finding(
            name="Weights",
            state=FAIL,
            detail=error.message.rstrip("."),
            remedy=f"rm {settings.data_dir}/weights.json",
        )
        return
    fetched = []
    for one in found:
        if one.part.names_folder:
            yield _check_folder(one)
        elif one.state == "whole":
            yield Finding(
                name="Weights",
                state=OK,
                detail=f"{one.part.name}: {one.part.place} at {str(one.commit)[:12]}, in {one.folder}",
            )
        else:
            fetched.append(one)
    if fetched:
        yield from _check_fetched(engine, fetched)


def _check_toon() -> Finding:
    try:
        toon = version("understudy-toon")
    except PackageNotFoundError:
        return Finding(
            name="Weights",
            state=FAIL,
            detail="toon's are not installed",
            remedy=INSTALL,
        )
    from understudy_toon import checkpoint_path

    folder = checkpoint_path()
    if not (folder / "model_index.json").is_file():
        return Finding(
            name="Weights",
            state=FAIL,
            detail=f"toon's are not whole in {folder}",
            remedy="pip install --force-reinstall --no-deps ./models/toon, in a clone of Understudy",
        )
    return Finding(name="Weights", state=OK, detail=f"model: understudy-toon {toon}, in {folder}")


def _check_folder(found: Found) -> Finding:
    part = found.part
    if found.folder is None:
        return Finding(
            name="Weights",
            state=FAIL,
            detail=f"{part.variable} names the folder {part.place}, which is not there",
            remedy=f"set {part.variable} to a folder that is, or to a hub id",
        )
    if found.missing:
        return Finding(
            name="Weights",
            state=WARN,
            detail=f"{part.name}: {part.place} lacks {', '.join(found.missing[:3])}",
            remedy=f"set {part.variable} to a folder that is whole, or to a hub id",
        )
    return Finding(name="Weights", state=OK, detail=f"{part.name}: {part.place}")


def _check_fetched(engine: str, found: list[Found]) -> Iterator[Finding]:
    """That parts of the hub are missing, and whether the disk has room for them."""
    from huggingface_hub import constants

    sizes = [one.part.about_bytes for one in found]
    known = sum(filter(None, sizes))
    size = "" if not known else f": {'over' if None in sizes else 'about'} {describe_size(known)} to fetch"
    named = ", ".join(
        f"{one.part.name} ({one.part.place}{', a part is here' if one.state == 'part' else ''})"
        for one in found
    )
    command = f"understudy fetch {engine}"
    yield Finding(name="Weights", state=FAIL, detail=f"not here: {named}{size}", remedy=command)
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < known:
        yield Finding(
            name="Disk",
            state=FAIL,
            detail=f"{describe_size(free)} are free where weights come to, {constants.HF_HUB_CACHE}",
            remedy=f"export HF_HOME=<a folder on a larger disk>, then {command}",
        )


def _check_memory(settings: Settings, engine: str, device: dict[str, Any] | None) -> Iterator[Finding]:
    """How an engine's weights would be laid out in the memory that is free now."""
    from ...engines.memory_profile import FOOTPRINTS, EngineError, choose_memory_profile

    footprint = FOOTPRINTS.get(engine)
    if footprint is None or device is None:
        return
    if is_in_use(settings.data_dir):
        yield Finding(
            name="Memory", state=OK, detail="not judged beside the service that runs, which has its own"
        )
        return
    host = _count_free_memory()
    if "free" not in device:
        parameters = footprint.denoiser + footprint.encoders + footprint.autoencoder
        yield _judge_host(parameters * CPU_PARAMETER_BYTES, host, f"on {device['name']} in single precision")
        return
    try:
        profile = choose_memory_profile(engine, device["free"], settings.memory_profile)
    except EngineError as error:
        yield Finding(
            name="Memory",
            state=FAIL,
            detail=f"{device['name']}: {error.message.rstrip('.')}",
            remedy="nvidia-smi shows what else uses it",
        )
        return
    if profile.host_bytes > host:
        yield _judge_host(profile.host_bytes, host, f"beside {device['name']}")
    else:
        yield Finding(name="Memory", state=OK, detail=f"{device['name']}: {profile.words}")


def _judge_host(needed: int, free: int, where: str) -> Finding:
    detail = f"about {describe_size(needed)} of this machine's memory {where}; {describe_size(free)} are free"
    if needed > free:
        return Finding(
            name="Memory",
            state=FAIL,
            detail=detail,
            remedy="use a machine with more memory, or a smaller engine (docs/engines/README.md)",
        )
    return Finding(name="Memory", state=OK, detail=detail)


def _count_free_memory() -> int:
    """Bytes of memory that a new process can have; all that there are where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
