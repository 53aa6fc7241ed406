"""Measures this machine and writes what it finds to `benchmarks/RESULTS.md`.

    python benchmarks/bench.py                 everything that `make bench` measures
    python benchmarks/bench.py queue polls     only these sections
    python benchmarks/bench.py --help          what there is

Each section stands beside a baseline measured in the same run, round by round in turn, and tells
medians; a run rewrites the sections it measures and leaves the others as they are. The load
comes from this process, on the same machine: what it costs is in every figure.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import disk
import engine
import key_checks
import large_table
import listeners
import memory
import other_queues
import psutil
import service_start
import status_polls
import throughput
from service import DISK

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


@dataclass(frozen=True)
class Section:
    """One benchmark: its title in the results, and what measures it."""

    title: str
    measure: Callable[[int], list[str]]
    """Given the number of rounds, the section's lines in Markdown."""

    by_default: bool = True


SECTIONS = {
    "disk": Section("What the disk allows", disk.measure),
    "queue": Section("The queue: submit to COMPLETED", throughput.measure),
    "polls": Section("Status polls", status_polls.measure),
    "peers": Section("The queue beside others", other_queues.measure),
    "listeners": Section("A thousand listeners", listeners.measure, by_default=False),
    "memory": Section("Memory over 200,000 jobs", memory.measure, by_default=False),
    "scale": Section("The store with large tables", large_table.measure, by_default=False),
    "keys": Section("Wrong keys", key_checks.measure, by_default=False),
    "engine": Section("The embedded engine", engine.measure),
    "start": Section("From start to picture, the embedded engine", service_start.measure),
}


def main() -> None:
    """Measure the sections that are asked for, write and print them."""
    parser = argparse.ArgumentParser(description="Measure this machine, into benchmarks/RESULTS.md.")
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each; medians are told (default 3)")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    asked = parser.parse_args()
    if unknown := [name for name in asked.sections if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    names = asked.sections or [name for name, section in SECTIONS.items() if section.by_default]
    for name in names:
        section = SECTIONS[name]
        command = f"python benchmarks/bench.py {name} --rounds {asked.rounds}"
        lines = [f"## {section.title}", "", f"`{command}`, {describe_machine()}.", ""]
        lines += section.measure(asked.rounds)
        print("\n".join([*lines, ""]), flush=True)
        if not asked.print_only:
            write_section(section.title, lines)


def write_section(title: str, lines: list[str]) -> None:
    """Put a section into the results, in the order of `SECTIONS`; the others stay as they are."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    written = {
        part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in re.split(r"^## ", text, flags=re.M)[1:]
    }
    written[title] = "\n".join(lines).rstrip() + "\n"
    kept = [written[section.title] for section in SECTIONS.values() if section.title in written]
    RESULTS.write_text("\n".join(["# Measurements\n", *kept]))


def describe_machine() -> str:
    """Processor, cores, memory, system, the disk's file system, and the versions that matter."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return (
        f"{name}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]}, {describe_disk(DISK)}, "
        f"Python {platform.python_version()}, PyTorch {version('torch')}"
    )


def describe_disk(folder: Path) -> str:
    """The file system that a folder lies on."""
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else os.name


if __name__ == "__main__":
    main()
