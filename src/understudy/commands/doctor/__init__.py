"""`understudy doctor`: what this machine has, what is wrong, and what mends it.

It changes nothing, not even a file's time, and can be asked beside a running service.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import DataDir, Engine, Json, read_settings
from . import data_folder, machine, worker
from .engine import check_engines, find_missing_weights
from .finding import FAIL, INFO, OK, WARN, Finding
from .machine import find_missing_device

if TYPE_CHECKING:
    from ...settings import Settings

__all__ = ["doctor", "find_missing_device", "find_missing_weights"]


def doctor(
    host: Annotated[str, typer.Option(help="Address that the service is to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port that the service is to listen on; 0 asks for none.")
    ] = 8000,
    data_dir: DataDir = None,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Say what this machine has, what is wrong, and what mends it.

    Starts a worker as the service would, unless a service runs on the data folder. Changes nothing.
    Ends with status 1 when something fails that would stop the service or its pictures.
    """
    settings = read_settings(data_dir=data_dir, engine=engine)
    findings = _examine(settings)
    findings += machine.check_port(settings, host, port)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    if any(finding.state == FAIL for finding in findings):
        raise typer.Exit(1)


def _examine(settings: Settings) -> list[Finding]:
    """What is found, in the order of the lines."""
    findings = [finding for check in machine.CHECKS for finding in check(settings)]
    device = None
    if settings.served_engines != ("null",):
        torch = machine.ask_torch()
        findings += machine.check_torch(settings, torch)
        device = machine.choose_device(settings, torch)
    findings += check_engines(settings, device)
    checks = (*worker.CHECKS, *data_folder.CHECKS, worker.check_worker)
    return findings + [finding for check in checks for finding in check(settings)]


def _print_findings(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..tables import print_table

    colours = {OK: "green", INFO: "cyan", WARN: "yellow", FAIL: "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        # An engine's lines stand under its first.
        name = f"  {finding.name}" if finding.engine and finding.name != "Engine" else finding.name
        table.add_row(Text(finding.state, style=colours[finding.state]), name, finding.detail)
        if finding.remedy:
            table.add_row("", "", Text.assemble(("mend it with:", "dim"), f" {finding.remedy}"))
    print_table(table)
