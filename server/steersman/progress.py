"""Progress of long commands: bars on a terminal, lines in a log."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from steersman.console import errors

LINE_SECONDS = 30.0
"""Seconds between two lines of progress in a log."""

# Work is done in bursts: searches end together, batches are drawn at once.
_SPEED_SECONDS = 120


class _Amount(ProgressColumn):
    """Done and total of a step that has a total."""

    def render(self, task: Task) -> Text:
        return Text(_amount(task), style="progress.download")


class Progress:
    """Steps of a long command, one after the other; a context manager.

    On a terminal each step is a bar, redrawn in place. In a log it is a line when it begins, a line
    every `LINE_SECONDS` while it goes on, whether anything was done meanwhile or not, and a line at
    its end if it took longer than that.

    Args:
        console: Console that shows it; standard error when None.
        sizes: Whether totals are numbers of bytes.
        every: Seconds between two lines in a log.

    """

    def __init__(
        self, console: Console | None = None, *, sizes: bool = False, every: float = LINE_SECONDS
    ) -> None:
        self._console = console or errors
        self._bars = Bars(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Amount(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_interactive,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self._sizes = sizes
        self._every = every
        self._task: Task | None = None
        self._told = False  # a line about the current step, beside its first
        self._due = 0.0  # when the next line is, by the monotonic clock
        self._ended = threading.Event()
        self._turn = threading.Lock()  # of the two threads, for the fields above and the console
        self._lines = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._bars.start()
        if self._bars.disable:
            self._put_off()
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._bars.disable:
            self._lines.join()
        if kind is None:
            self._finish()
        self._bars.stop()

    def step(self, text: str, total: int | None = None, *, done: int = 0) -> None:
        """Finish the step before and begin the next.

        Args:
            text: Name of the step.
            total: Size of the step, if it is known.
            done: Part of it that an earlier run has done.

        """
        with self._turn:
            self._finish()
            unit = "" if total is None else "bytes" if self._sizes else "items"
            self._bars.add_task(text, total=total, completed=done, unit=unit, before=done)
            self._task = self._bars.tasks[-1]
            self._told = False
            if self._bars.disable:
                self._say(": ".join(filter(None, (text, _amount(self._task)))))

    def update(self, done: int) -> None:
        """Say how much of the current step is done."""
        if self._task is not None:
            self._bars.update(self._task.id, completed=done)

    def advance(self, more: int = 1) -> None:
        """Say how much more of the current step is done."""
        if self._task is not None:
            self._bars.update(self._task.id, advance=more)

    def _finish(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        total = task.total if task.total is not None else 1
        self._bars.update(task.id, total=total, completed=total)
        if self._told:
            self._say(f"{task.description}: done in {duration(task.elapsed or 0)}")

    def _tell(self) -> None:
        """Say a line whenever one is due, until the end."""
        while not self._ended.wait(max(0.0, self._due - time.monotonic())):
            with self._turn:
                if time.monotonic() < self._due:
                    continue
                self._put_off()
                if self._task is not None:
                    self._told = True
                    self._say(line(self._task))

    def _say(self, text: str) -> None:
        self._put_off()
        # A log is read by lines: none is broken at a width.
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _put_off(self) -> None:
        self._due = time.monotonic() + self._every


def duration(seconds: float) -> str:
    """Seconds as a reader counts them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def line(task: Task) -> str:
    """Line of progress: name, done and total, time taken, time left at the speed so far.

    The fields of the task are `unit`, as `Progress` sets it, and `before`, the part that was done
    before the step began.
    """
    share = f" ({task.percentage:.0f} %)" if task.total else ""
    elapsed = task.elapsed or 0.0
    parts = [_amount(task) + share, duration(elapsed)]
    more = task.completed - task.fields["before"]
    if task.total and more > 0:
        parts.append(f"{duration(elapsed * (task.total - task.completed) / more)} left")
    return f"{task.description}: {', '.join(filter(None, parts))}"


def _amount(task: Task) -> str:
    """Done and total: 412 of 1,600; empty without a total."""
    done, total = int(task.completed), int(task.total or 0)
    match task.fields["unit"]:
        case "items":
            return f"{done:,} of {total:,}"
        case "bytes":
            return f"{decimal(done)} of {decimal(total)}"
        case _:
            return ""
