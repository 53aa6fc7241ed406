"""`understudy doctor`: what this machine has, what is wrong, and what mends it.

It changes nothing, not even a file's time, and can be asked beside a running service.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ..options import DataDir, Engine, Json, read_settings
from . import data_folder, engine, machine
from .engine import find_missing_weights
from .finding import FAIL, OK, WARN, Finding
from .machine import find_missing_device

__all__ = ["doctor", "find_missing_device", "find_missing_weights"]

CHECKS = (*machine.CHECKS, *engine.CHECKS, *data_folder.CHECKS, engine.check_worker)
"""In the order of their lines; the last takes longest."""


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
    findings = [finding for check in CHECKS for finding in check(settings)]
    findings += machine.check_port(settings, host, port)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    if any(finding.state == FAIL for finding in findings):
        raise typer.Exit(1)


def _print_findings(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..tables import print_table

    colours = {OK: "green", WARN: "yellow", FAIL: "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        table.add_row(Text(finding.state, style=colours[finding.state]), finding.name, finding.detail)
        if finding.remedy:
            table.add_row("", "", Text.assemble(("mend it with:", "dim"), f" {finding.remedy}"))
    print_table(table)
