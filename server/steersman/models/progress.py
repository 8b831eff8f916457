"""How the making of a model directory is shown: a line a step, with a bar where bytes are known."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text


class Progress(Protocol):
    """Where the steps are told to."""

    def step(self, text: str, total: int | None = None) -> None:
        """Begin a step; `total` is its size in bytes, if it has one."""

    def advance(self, done: int) -> None:
        """Say how many bytes of the current step are done."""


class _Bytes(DownloadColumn):
    """Done and total, of the steps that have a size."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields["sized"] else Text()


class ConsoleProgress:
    """Steps on a console, redrawn in place on a terminal; a context manager.

    Where the console is no terminal, one plain line a step is printed.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Bars(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            _Bytes(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def step(self, text: str, total: int | None = None) -> None:
        """Finish the step before and show the next."""
        self._finish()
        if self._bars.disable:
            self._console.print(text, highlight=False)
        self._task = self._bars.add_task(text, total=total, sized=total is not None)

    def advance(self, done: int) -> None:
        """Move the bar of the current step."""
        if self._task is not None:
            self._bars.update(self._task, completed=done)

    def _finish(self) -> None:
        if self._task is not None:
            total = self._bars.tasks[-1].total or 1
            self._bars.update(self._task, total=total, completed=total)
