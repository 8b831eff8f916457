"""Progress of the making of a model directory: steps, with bytes where they are known."""

from typing import Protocol

from rich.console import Console

from steersman import progress


class Progress(Protocol):
    """Receiver of the steps."""

    def step(self, text: str, total: int | None = None) -> None:
        """Begin a step; `total` is its size in bytes, if it has one."""

    def update(self, done: int) -> None:
        """Say how many bytes of the current step are done."""


class ConsoleProgress(progress.Progress):
    """Steps on a console, standard error by default, counted in bytes."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console, sizes=True)
