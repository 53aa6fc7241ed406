"""`understudy serve`: the service in this process, from the bound socket to the graceful stop."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import math
import socket
import threading
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UnderstudyError
from ..licences import explain_unaccepted
from ..logs import start_logging
from ..weights import list_parts
from .doctor import find_missing_device, find_missing_weights
from .options import DataDir, Engine, explain_damage, name_unknown_settings, read_settings

if TYPE_CHECKING:
    from types import FrameType

    from ..accounts.keys import KeyStore
    from ..settings import Settings

LISTEN_BACKLOG = 2048
"""Connections that may wait to be accepted."""

OPEN_FILES = 65_536
"""Files and connections that may be open where the machine knows no limit."""

GARBAGE_OBJECTS = 20_000
"""New objects between two looks for garbage."""


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one and prints it.")
    ] = 8000,
    data_dir: DataDir = None,
    engine: Engine = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    The first start on this machine's own address makes a key and prints it. A stop takes no new
    job, lets the running ones end within UNDERSTUDY_SHUTDOWN_GRACE_SECONDS and keeps the rest for
    the next start.
    """
    settings = read_settings(data_dir=data_dir, engine=engine)
    for sentence in name_unknown_settings():
        typer.echo(f"Warning: {sentence}", err=True)
    _check_licences(settings)
    if missing := find_missing_weights(settings):
        raise UnderstudyError(missing, code="invalid_setting")
    if settings.device not in ("auto", "cpu"):
        # Beside the start, which need not wait for what is asked in a process of its own.
        threading.Thread(target=_warn_of_device, args=(settings,), daemon=True).start()
    with _bind(host, port) as listener:
        _run(settings, listener, host)


def _check_licences(settings: Settings) -> None:
    """Refuse to start before every licence is accepted that has to be.

    Raises:
        UnderstudyError: one is not; the message names the weights, the licence and the setting.
    """
    for engine in settings.served_engines:
        weights = [part.place for part in list_parts(settings, engine)]
        if refusal := explain_unaccepted(engine, weights, settings.accepted):
            raise UnderstudyError(refusal, code="licence_not_accepted")


def _warn_of_device(settings: Settings) -> None:
    if missing := find_missing_device(settings):
        typer.echo(f"Warning: {missing}", err=True)


def _bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address; it listens only when the service is ready for clients."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise UnderstudyError(f"There is no address {host!r} on this machine; check --host.") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UnderstudyError(
            f"Cannot listen on {host} port {port} ({error.strerror}); "
            "choose another with --port, or --port 0 for a free one."
        ) from None
    return listener


def _run(settings: Settings, listener: socket.socket, host: str) -> None:
    import signal

    import uvicorn

    from ..server.app import create_app
    from ..server.protocol import HttpProtocol

    port = listener.getsockname()[1]

    class Server(uvicorn.Server):
        """Says when it listens, and leaves signals to `stop`."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            shown = f"[{host}]" if ":" in host else host
            print(f"Understudy listens on http://{shown}:{port}", flush=True)

        def capture_signals(self):
            return nullcontext()

    async def run() -> None:
        # Started here and not by uvicorn, so that why it cannot start is an exception, not a log.
        async with app.router.lifespan_context(app):
            _collect_garbage_seldom()
            if _is_loopback(listener):
                await _make_first_key(app.state.service.keys)
            await server.serve(sockets=[listener])

    start_logging(settings.log_level)
    _allow_open_files()
    settings = settings.decide_for(loopback=_is_loopback(listener))
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=LISTEN_BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_seconds),
    )
    server = Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:

        def stop(number: int, frame: FrameType | None) -> None:
            # Waiting connections must be let go before the server waits for them to end.
            if hasattr(app.state, "service"):
                runner.get_loop().call_soon_threadsafe(app.state.service.begin_stop)
            server.handle_exit(number, frame)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        with explain_damage(settings.data_dir):
            runner.run(run())


def _allow_open_files() -> None:
    """Take as many open files as the machine allows: a connection is one, a listener stays for hours."""
    import resource

    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        most = OPEN_FILES
    if allowed != resource.RLIM_INFINITY and allowed < most:
        # macOS calls more unlimited than it then allows.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _collect_garbage_seldom() -> None:
    """Leave what was imported out of every collection, and look over new objects less often.

    What a request makes is freed by reference counting; a collection at each few hundred new
    objects costs a twentieth of the service's time and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


async def _make_first_key(keys: KeyStore) -> None:
    from ..accounts.keys import SCOPES

    if await keys.count() == 0:
        secret, _ = await keys.create("local", scopes=SCOPES)
        print(f"This first start made a key, shown only now:\n\n    {secret}\n", flush=True)
