"""How far a job is, as lines of the terminal that are drawn again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

STAGES = {
    "waiting": "Waiting for a worker",
    "fetching": "Fetching the pictures",
    "loading": "Loading the engine",
    "drawing": "Drawing",
    "done": "Done",
}


class JobProgress:
    """A bar for one job after another, on stderr, and one for each of several pictures that has begun.

    They are gone at the end, and where nothing can be drawn again there are none.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._job = self._progress.add_task("Sending", total=None, count="")
        self._pictures: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bars away, so that what is written next stands alone."""
        self._progress.stop()

    def show(self, snapshot: Mapping[str, Any]) -> None:
        """Show a snapshot of a job: `status`, `stage`, `step`, `steps`, `queue_position`, `images`."""
        status, stage = snapshot.get("status"), snapshot.get("stage") or ""
        if status == "COMPLETED":
            self._show_end()
            return
        step, steps = snapshot.get("step"), snapshot.get("steps")
        words = "Failed" if status == "FAILED" else STAGES.get(stage, "Working")
        if stage == "waiting" and (place := snapshot.get("queue_position") or 0) > 1:
            words = f"Waiting in the queue, place {place}"
        self._progress.update(
            self._job,
            description=words,
            # Without a first step there is nothing to measure by: the bar only moves.
            total=steps if step else None,
            completed=step or 0,
            count=f"step {step} of {steps}" if step else "",
        )
        self._show_pictures(snapshot.get("images") or ())

    def _show_end(self) -> None:
        # The end carries the result, not the steps: whatever there was to do is done.
        steps = self._progress.tasks[0].total
        self._progress.update(
            self._job,
            description=STAGES["done"],
            total=steps or 1,
            completed=steps or 1,
            count=f"step {steps:.0f} of {steps:.0f}" if steps else "",
        )
        while self._pictures:
            self._progress.remove_task(self._pictures.popitem()[1])

    def _show_pictures(self, images: Sequence[Mapping[str, Any]]) -> None:
        for image in images:
            index = image["index"]
            if image["state"] == "waiting":
                # It had begun, but its worker is gone.
                if index in self._pictures:
                    self._progress.remove_task(self._pictures.pop(index))
                continue
            if index not in self._pictures:
                self._pictures[index] = self._progress.add_task(_name_picture(image), count="")
            self._progress.update(
                self._pictures[index],
                total=image["steps"],
                completed=image["step"],
                count=_describe_picture(image),
            )


def _name_picture(image: Mapping[str, Any]) -> str:
    return f"  {image['index'] + 1:02} {image.get('asked_pose', '')}".rstrip()


def _describe_picture(image: Mapping[str, Any]) -> str:
    if image["state"] == "drawing":
        return f"step {image['step']} of {image['steps']}"
    scores = [f"{name} {image[name]:.2f}" for name in ("likeness", "pose") if image.get(name) is not None]
    return "  ".join(["done", *scores])
