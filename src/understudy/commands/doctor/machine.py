"""What the doctor finds of the machine: Python, PyTorch and its devices, the environment, the network."""

from __future__ import annotations

import errno
import json
import platform
import resource
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...backup import is_in_use
from ..options import name_unknown_settings
from .finding import FAIL, INSTALL, OK, WARN, Finding, describe_size

if TYPE_CHECKING:
    from ...settings import Settings

FEW_FILES, TOO_FEW_FILES = 1024, 128
"""Below the first limit of open files the doctor warns, below the second a service would not get far."""

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


def _check_python(settings: Settings) -> Iterator[Finding]:
    from ... import __version__

    yield Finding(
        name="Python", state=OK, detail=f"{platform.python_version()} on {platform.platform(terse=True)}"
    )
    yield Finding(name="Understudy", state=OK, detail=__version__)


def _check_environment(settings: Settings) -> Iterator[Finding]:
    for sentence in name_unknown_settings():
        yield Finding(
            name="Setting",
            state=WARN,
            detail=sentence,
            remedy="mend its name as docs/settings.md has it, or unset it",
        )


def find_missing_device(settings: Settings) -> str | None:
    """A sentence when the device that the settings name is not there; PyTorch is asked, for seconds."""
    for finding in check_torch(settings, ask_torch()):
        if finding.state == FAIL:
            return f"{finding.name}: {finding.detail}; mend it with: {finding.remedy}."
    return None


def ask_torch() -> dict[str, Any] | str:
    """PyTorch's version and the devices that it finds, the CPU first, or why it cannot tell.

    It is asked in a process of its own: it takes seconds to load, and keeps a GPU's memory.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return "takes over two minutes to load"
    if asked.returncode != 0 or not asked.stdout.strip():
        last = (asked.stderr.strip().splitlines() or [f"ended with status {asked.returncode}"])[-1]
        return f"cannot be imported: {last}"
    return json.loads(asked.stdout.splitlines()[-1])


def check_torch(settings: Settings, torch: dict[str, Any] | str) -> Iterator[Finding]:
    """What PyTorch said of itself and of its devices."""
    if isinstance(torch, str):
        yield Finding(name="PyTorch", state=FAIL, detail=torch, remedy=INSTALL)
        return
    build = f"for CUDA {torch['cuda']}" if torch["cuda"] else "for CPUs"
    yield Finding(name="PyTorch", state=OK, detail=f"{torch['version']}, {build}")
    yield from _check_devices(settings, torch)


def choose_device(settings: Settings, torch: dict[str, Any] | str) -> dict[str, Any] | None:
    """The device that the service draws on; None where there is none, or PyTorch cannot tell."""
    if isinstance(torch, str):
        return None
    cpu, *accelerators = torch["devices"]
    if settings.device == "auto":
        return accelerators[0] if accelerators else cpu
    wanted = "cuda:0" if settings.device == "cuda" else settings.device
    return next((device for device in torch["devices"] if device["name"] == wanted), None)


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
        memory = (
            f", {describe_size(device['free'])} of {describe_size(device['total'])} free"
            if "free" in device
            else ""
        )
        yield Finding(name="Device", state=OK, detail=f"{device['name']}: {device['title']}{memory}")
    if accelerators:
        return
    threads = torch["devices"][0]["threads"]
    wants_gpu = settings.device.startswith(("cuda", "mps")) or not {*settings.served_engines} <= {
        "toon",
        "null",
    }
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
        words = "; only toon draws on it within seconds" if wants_gpu else ", enough for the engine toon"
        yield Finding(name="Device", state=WARN if wants_gpu else OK, detail=f"CPU, {threads} threads{words}")


def _has_device(device: str, accelerators: list[dict[str, Any]]) -> bool:
    names = {accelerator["name"] for accelerator in accelerators}
    return device in ("auto", "cpu", *names) or (device == "cuda" and "cuda:0" in names)


def _check_open_files(settings: Settings) -> Iterator[Finding]:
    # The service takes all that it is allowed to take.
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= FEW_FILES:
        yield Finding(name="Open files", state=OK, detail=_describe_limit(limit))
        return
    yield Finding(
        name="Open files",
        state=FAIL if limit < TOO_FEW_FILES else WARN,
        detail=f"only {_describe_limit(limit)}",
        remedy="LimitNOFILE=65536 in a systemd unit, --ulimit nofile=65536 for a container; "
        "else the administrator raises the hard limit",
    )


def _describe_limit(limit: int) -> str:
    number = "without limit" if limit == resource.RLIM_INFINITY else str(limit)
    return f"{number} at the same time; each connection needs one"


def check_proxy(settings: Settings | None = None) -> Iterator[Finding]:
    """Whether a proxy of the environment stands between the SDK and a service on this machine."""
    proxies = urllib.request.getproxies_environment()
    named = [f"{scheme.upper()}_PROXY" for scheme in ("http", "https", "all") if scheme in proxies]
    if not named:
        yield Finding(name="Proxy", state=OK, detail="none in the environment")
    elif all(urllib.request.proxy_bypass_environment(host, proxies) for host in ("127.0.0.1", "localhost")):
        yield Finding(
            name="Proxy",
            state=OK,
            detail=f"{_join(named)} for downloads of weights, not for this machine; "
            "pictures are fetched without a proxy",
        )
    else:
        yield Finding(
            name="Proxy",
            state=WARN,
            detail=f"{_join(named)}: the SDK and the command line would ask it for a service on this "
            "machine; pictures are fetched without a proxy",
            remedy="export NO_PROXY=127.0.0.1,localhost",
        )


def _join(names: list[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} set"


def _is_service(host: str, port: int) -> bool:
    """Whether an Understudy service answers there."""
    import httpx2

    # The address that is all of a machine's is reached at its own.
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    address = f"[{here}]" if ":" in here else here
    try:
        with httpx2.Client(timeout=3, trust_env=False) as client:
            return client.get(f"http://{address}:{port}/health/live").json() == {"status": "live"}
    except (httpx2.HTTPError, ValueError):
        return False


def check_port(settings: Settings, host: str, port: int) -> Iterator[Finding]:
    """Whether the service can listen there; nothing is asked of port 0, which is any that is free."""
    if port == 0:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        if taken and is_in_use(settings.data_dir) and _is_service(host, port):
            yield Finding(
                name="Port", state=OK, detail=f"{host} port {port} is taken, as a service runs here"
            )
            return
        reason = getattr(error, "strerror", None) or "no such address"
        yield Finding(
            name="Port",
            state=FAIL,
            detail=f"cannot listen on {host} port {port} ({reason})",
            remedy="understudy serve --port 0 takes a free one, --host another address",
        )
    else:
        yield Finding(name="Port", state=OK, detail=f"{host} port {port} is free")


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


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _check_python,
    _check_environment,
    _check_open_files,
    check_proxy,
    _check_public_url,
)
