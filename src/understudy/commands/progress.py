"""How far a job is, as one line of the terminal that is drawn again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

STAGES = {
    "waiting": "Waiting for a worker",
    "fetching": "Fetching the pictures",
    "loading": "Loading the engine",
    "drawing": "Drawing",
    "done": "Done",
}


class JobProgress:
    """A progress bar for one job, on stderr; with `keep` it stays there when the job has ended."""

    def __init__(self, title: str = "", *, keep: bool = False) -> None:
        self._title = title
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=not keep,
            # Where nothing can be drawn again, only what stays is worth a line.
            disable=not keep and not console.is_terminal,
        )
        self._task = self._progress.add_task(self._describe("Sending"), total=None, count="")

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
        """Take the bar away, so that what is written next stands alone."""
        self._progress.stop()

    def follow(self, snapshots: Iterable[Mapping[str, Any]]) -> None:
        """Show each snapshot of a job as it comes, to the end."""
        for snapshot in snapshots:
            self.show(snapshot)

    def show(self, snapshot: Mapping[str, Any]) -> None:
        """Show one snapshot of a job: its `status`, `stage`, `step`, `steps`, `queue_position`."""
        status, stage = snapshot.get("status"), snapshot.get("stage") or ""
        if status == "COMPLETED":
            # The end carries the result, not the steps: whatever there was to do is done.
            steps = self._progress.tasks[self._task].total
            self._progress.update(
                self._task,
                description=self._describe(STAGES["done"]),
                total=steps or 1,
                completed=steps or 1,
                count=f"step {steps:.0f} of {steps:.0f}" if steps else "",
            )
            return
        step, steps = snapshot.get("step"), snapshot.get("steps")
        words = "Failed" if status == "FAILED" else STAGES.get(stage, "Working")
        if stage == "waiting" and (place := snapshot.get("queue_position") or 0) > 1:
            words = f"Waiting in the queue, place {place}"
        self._progress.update(
            self._task,
            description=self._describe(words),
            # Without a first step there is nothing to measure by: the bar only moves.
            total=steps if step else None,
            completed=step or 0,
            count=f"step {step} of {steps}" if step else "",
        )

    def _describe(self, words: str) -> str:
        return f"{self._title}: {words}" if self._title else words
