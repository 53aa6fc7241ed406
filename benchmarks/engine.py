"""Measures the embedded engine beside the plain diffusers call with the same weights.

    python benchmarks/engine.py

The default request: 1024 x 1024 pixels, 10 steps, guidance 3, a reference and a pose; each picture
has a prompt, a reference and a pose of its own, so that no cache helps. The plain call is what
diffusers' pages show, in a process with torch's own defaults; its picture is enlarged to the same size.
Both processes (`drawing_processes.py`) wait while the other draws.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
from drawing_processes import BATCH_SIZES, GUIDANCE, SIDE, STEPS, make_task, measure_psnr
from PIL import Image

ROUNDS = 7
WARM_UPS = 2
PROCESSES = Path(__file__).with_name("drawing_processes.py")

Child = Callable[..., dict[str, Any]]


def main() -> None:
    """Measure and print."""
    print("\n".join(measure(ROUNDS)))


def measure(rounds: int = ROUNDS) -> list[str]:
    """The results as lines of Markdown."""
    with tempfile.TemporaryDirectory() as folder, run_child("ours") as ours, run_child("plain") as plain:
        ours(do="draw_references", folder=folder, count=max(2 * rounds + WARM_UPS, *BATCH_SIZES))
        for number in range(WARM_UPS):
            for child in (ours, plain):
                child(do="draw", folder=folder, number=number)
        quiet = compare(ours, plain, folder, range(WARM_UPS, WARM_UPS + rounds))
        with busy_core():
            busy = compare(ours, plain, folder, range(WARM_UPS + rounds, WARM_UPS + 2 * rounds))
        task = ours(do="time_tasks", folder=folder, count=rounds)
        batches = ours(do="time_batches", folder=folder, rounds=max(2, rounds // 2))
    starts = [measure_start() for _ in range(3)]
    return [
        f"{SIDE} x {SIDE} pixels, {STEPS} steps, guidance {GUIDANCE:g}, with reference and pose; prompt, "
        f"reference and pose are other ones for each picture. Medians of {rounds} rounds, in turn.",
        "",
        *compare_lines(quiet, busy),
        "",
        *part_lines(task),
        "",
        *batch_lines(batches),
        "",
        *start_lines(starts),
    ]


def compare(ours: Child, plain: Child, folder: str, numbers: range) -> dict[str, list[float]]:
    """The same pictures drawn by both in turn: seconds, and how much the pictures differ."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in numbers:
        for name, child in (("ours", ours), ("plain", plain)):
            answer = child(do="draw", folder=folder, number=number)
            found[name].append(answer["seconds"])
            found[f"{name} CPU"].append(answer["cpu_seconds"])
        pictures = [
            numpy.asarray(Image.open(Path(folder) / f"{name}-{number}.png"), dtype=float)
            for name in ("ours", "plain")
        ]
        difference = numpy.abs(pictures[0] - pictures[1])
        found["difference"].append(float(difference.max()))
        found["psnr"].append(measure_psnr(*pictures))
    return found


def compare_lines(quiet: dict[str, list[float]], busy: dict[str, list[float]]) -> list[str]:
    """A table of both ways, on a quiet machine and beside another program."""
    lines = [
        "| drawing one picture | plain diffusers call | this engine | times faster |",
        "| --- | ---: | ---: | ---: |",
    ]
    for words, found in (("seconds", quiet), ("seconds, another program keeping one core busy", busy)):
        plain, ours = statistics.median(found["plain"]), statistics.median(found["ours"])
        lines.append(f"| {words} | {plain:.3f} | {ours:.3f} | {plain / ours:.2f} |")
    plain, ours = statistics.median(quiet["plain CPU"]), statistics.median(quiet["ours CPU"])
    lines.append(f"| CPU seconds | {plain:.3f} | {ours:.3f} | {plain / ours:.2f} |")
    most, least = max(quiet["difference"] + busy["difference"]), min(quiet["psnr"] + busy["psnr"])
    return [
        *lines,
        "",
        f"Largest difference of any pixel of the two pictures: {most:.0f} of 255; "
        f"lowest PSNR {least:.1f} dB.",
    ]


def part_lines(task: dict[str, Any]) -> list[str]:
    """A table of where the time of one task goes."""
    parts = {name: statistics.median(values) for name, values in task["parts"].items()}
    whole = statistics.median(task["seconds"])
    lines = ["| one task through the worker, warm | ms |", "| --- | ---: |"]
    lines += [f"| {name} | {1000 * seconds:.1f} |" for name, seconds in parts.items()]
    lines.append(f"| everything else | {1000 * (whole - sum(parts.values())):.1f} |")
    lines.append(f"| the whole task, from its frame to its picture | {1000 * whole:.1f} |")
    return lines


def batch_lines(batches: dict[str, Any]) -> list[str]:
    """A table of pictures drawn together."""
    lines = [
        "| pictures drawn together | seconds a picture | lowest PSNR to the same one alone |",
        "| ---: | ---: | ---: |",
    ]
    for size, found in batches["sizes"].items():
        psnr = "same bytes" if found["psnr"] is None else f"{found['psnr']:.1f} dB"
        lines.append(f"| {size} | {statistics.median(found['seconds']):.3f} | {psnr} |")
    return lines


def start_lines(starts: list[dict[str, float]]) -> list[str]:
    """A table of a worker's start."""
    lines = ["| from the start of the worker | seconds |", "| --- | ---: |"]
    return lines + [
        f"| {name} | {statistics.median(start[name] for start in starts):.2f} |" for name in starts[0]
    ]


def measure_start() -> dict[str, float]:
    """Seconds until a worker is ready and has drawn its first picture, and the parts of its load."""
    from understudy.executors.messages import Drawn, Ready, Run, decode_from_worker, encode_frame, read_frame

    environment = make_environment() | {"UNDERSTUDY_ENGINE": "toon", "UNDERSTUDY_DEVICE": "cpu"}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def wait_for(kind: type) -> float:
        while not isinstance(decode_from_worker(read_frame(process.stdout)), kind):
            pass
        return time.perf_counter() - begun

    ready = wait_for(Ready)
    reference = (Path(__file__).parents[1] / "examples" / "young-man.png").read_bytes()
    frame = memoryview(encode_frame(Run([make_task(0, "reference")], {"reference": reference})))
    while frame:
        frame = frame[process.stdin.write(frame) :]
    first = wait_for(Drawn)
    process.stdin.close()
    process.wait(60)
    shown = subprocess.run(
        [sys.executable, PROCESSES, "start"], capture_output=True, text=True, check=True, env=environment
    )
    return {
        **json.loads(shown.stdout.splitlines()[-1]),
        "ready": ready,
        "first picture (the request is sent when it is ready)": first,
    }


@contextmanager
def busy_core() -> Iterator[None]:
    """Another program that computes without pause."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def run_child(name: str) -> Iterator[Child]:
    """One of the measured processes; called with what it shall do, it answers when it is done."""
    process = subprocess.Popen(
        [sys.executable, PROCESSES, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if name == "plain" else None,
        text=True,
        env=make_environment(),
    )

    def ask(**order: Any) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            sys.exit(f"The process that draws ({name}) ended.")
        return json.loads(line)

    try:
        yield ask
    finally:
        process.communicate()


def make_environment() -> dict[str, str]:
    """This process's environment without what would choose threads or settings for a new user."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UNDERSTUDY_", "OMP_", "GOMP_", "MKL_", "MALLOC_"))
    }


if __name__ == "__main__":
    main()
