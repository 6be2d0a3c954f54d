"""How a run tells, on standard error, how it is getting on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmark.cli.text import say, warn

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from benchmark.runs.reporter import Reporter

SECONDS = 10.0
"""Time between two plain lines inside a phase."""


class Lines:
    """Plain lines, for logs: about every ten seconds, and at the end of every phase.

    Args:
        quiet: Warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.last = self.start = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            say(text)

    def warn(self, text: str) -> None:
        """One line that begins with WARNING, shown in any case."""
        warn(text)

    def epoch(self, phase: str, epoch: int, epochs: int, numbers: Mapping[str, float]) -> None:
        """One line if the phase ends or the last line is old enough."""
        now = time.monotonic()
        if epoch >= epochs or now - self.last >= SECONDS:
            self.last = now
            self.say(f"  {now - self.start:6.0f} s  {phase}  epoch {epoch}/{epochs}  {summary(numbers)}")


class Bar:
    """A progress bar per training phase.

    Args:
        progress: A started rich progress display.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.phase = ""
        self.task: TaskID | None = None

    def say(self, text: str) -> None:
        """One line above the bar."""
        self.progress.console.print(text, highlight=False, markup=False)

    def warn(self, text: str) -> None:
        """A framed text above the bar."""
        from rich.panel import Panel
        from rich.text import Text

        self.progress.console.print(Panel(Text(text), title="warning", border_style="bold red"))

    def epoch(self, phase: str, epoch: int, epochs: int, numbers: Mapping[str, float]) -> None:
        """Move the bar of this phase."""
        if phase != self.phase or self.task is None:
            self.phase, self.task = phase, self.progress.add_task(phase, total=epochs, numbers="")
        self.progress.update(self.task, completed=epoch, total=epochs, numbers=summary(numbers))


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Reporter]:
    """The reporter that suits standard error, for as long as the block lasts."""
    if quiet or not sys.stderr.isatty():
        yield Lines(quiet=quiet)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from benchmark.cli.view.console import Plain

    phase, numbers = (TextColumn(f"{{task.{x}}}", markup=False) for x in ("description", "fields[numbers]"))
    columns: list[Any] = [phase, BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), numbers]
    with Progress(*columns, console=Plain(sys.stderr)) as progress:
        yield Bar(progress)


def summary(numbers: Mapping[str, float], most: int = 3) -> str:
    """The first few numbers of an epoch, totals before parts, as short text."""
    names = sorted(numbers, key=lambda name: ("total" not in name, name))[:most]
    return "  ".join(f"{name} {numbers[name]:.4g}" for name in names)
