"""The same character in five pictures, from a service that this program starts and stops.

    make demo

Writes the pictures and one contact sheet to `demo/`, or to the folder given. It sends the
reference page's own request, which names no pose, through the SDK, then the same character in
four named poses; the sheet shows these first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from understudy import Client, Job
from understudy.commands.progress import JobProgress
from understudy.commands.tables import print_table
from understudy.contact_sheet import draw_contact_sheet

HERE = Path(__file__).resolve().parent
MODEL = "consistent-character-AI-neolemon-v3"
CHARACTER = HERE / "young-man.png"
PAYLOAD = {
    "prompt": "young man,beard, light skin, round face, large brown eyes and wavy brown hair, "
    "wearing a white t-shirt, red plaid shirt, blue jeans, and brown boots",
    "ip_image": CHARACTER,
    "steps": 10,
    "guidance_scale": 3,
    "width": 1024,
    "height": 1024,
    "seed": 4898558797,
}
NO_POSE = "no pose"
POSES = ("wave", "point", "run", "jump")

STOP_SECONDS = 60
"""How long the service may take to stop before it is killed."""

console = Console(stderr=True, highlight=False)


def main(folder: Path) -> None:
    """Draw, save into the folder, tell."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    names = (NO_POSE, *POSES)
    with tempfile.TemporaryDirectory(prefix="understudy-demo-") as data_dir, run_service(data_dir) as service:
        url, key = service
        console.print(f"The service runs on {url}, its data in {data_dir} until it stops.", soft_wrap=True)
        with Client(key, f"{url}/v1") as client:
            first = client.submit_async(MODEL, **PAYLOAD)
            results = [follow(first, names[0], folder)]
            console.print(f"First picture after {time.monotonic() - started:.1f} s.")
            jobs = [client.submit_async(MODEL, **PAYLOAD, pose=pose) for pose in POSES]
            results += [follow(job, pose, folder) for job, pose in zip(jobs, POSES, strict=True)]

    files = [folder / file_name(name) for name in names]
    sheet = folder / "sheet.png"
    shown = {
        "the character given": CHARACTER,
        **{name: folder / file_name(name) for name in (*POSES, NO_POSE)},
    }
    with ExitStack() as opened:
        pictures = [opened.enter_context(Image.open(file)) for file in shown.values()]
        draw_contact_sheet(pictures, list(shown), title="One reference, any pose", cell_width=208).save(sheet)

    table = Table("Picture", "Seed", "In the queue", "Drawing", "File", box=None, pad_edge=False)
    for name, file, result in zip(names, files, results, strict=True):
        metrics = result["metrics"]
        table.add_row(
            name,
            str(result["seed"]),
            f"{metrics['queue_time']:.2f} s",
            f"{metrics['inference_time']:.2f} s",
            os.path.relpath(file),
        )
    print()
    print_table(table)
    print(f"All of them on one sheet: {os.path.relpath(sheet)} ({time.monotonic() - started:.1f} s)")


@contextmanager
def run_service(data_dir: str) -> Iterator[tuple[str, str]]:
    """A service on a free port of this machine: its URL and the key that its first start prints."""
    environment = {name: value for name, value in os.environ.items() if name != "UNDERSTUDY_PUBLIC_URL"}
    # A line for each request would stand between those of the progress.
    environment.setdefault("UNDERSTUDY_LOG_LEVEL", "warning")
    service = subprocess.Popen(
        [sys.executable, "-m", "understudy.cli", "serve", "--port", "0", "--data-dir", data_dir],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield read_address(service)
    finally:
        service.send_signal(signal.SIGTERM)
        try:
            service.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()
            raise


def read_address(service: subprocess.Popen[str]) -> tuple[str, str]:
    """What a starting service prints: its key, then its URL."""
    key = ""
    for line in service.stdout or ():
        if line.strip().startswith("us_"):
            key = line.strip()
        if "listens on" in line:
            return line.split()[-1], key
    sys.exit("The service did not start; what it printed above says why.")


def follow(job: Job, name: str, folder: Path) -> dict:
    """Show a job's progress to its end and save its picture; the full result."""
    with JobProgress() as progress:
        for snapshot in job.events():
            progress.show(snapshot)
    result = job.wait()
    job.save(folder / file_name(name))
    console.print(f"{name:8} is drawn.")
    return result


def file_name(name: str) -> str:
    """The file of a picture."""
    return f"{name.replace(' ', '-')}.png"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=HERE.parent / "demo", help="where the pictures go"
    )
    main(parser.parse_args().folder)
