"""Terminal that the commands print on, and one red line for a failure."""

from typing import NoReturn

import typer
from rich.console import Console

output = Console()
errors = Console(stderr=True)


def fail(reason: str) -> NoReturn:
    """End the command with one line and exit code 2."""
    errors.print(f"steersman: {reason}", style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(2)
