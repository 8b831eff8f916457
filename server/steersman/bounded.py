"""A function in a process of its own, which is ended when a call takes too long.

For work whose length depends on what somebody wrote: computer algebra on `9^{9^{9^9}}`, a JSON
schema whose references multiply.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


class BoundedError(Exception):
    """A call that gave no result: it took too long, or raised an error."""


class Bounded(Generic[ResultT]):
    """Calls a function in a process that starts with the first call. Callable from any thread; the
    calls are run one after another.

    Args:
        work: A function of a module.
        seconds: Processor time for one call, whatever else the machine does.
        prepare: Called once in the process, before any time is counted.

    """

    def __init__(
        self,
        work: Callable[..., ResultT],
        seconds: float,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._work = work
        self._seconds = seconds
        self._prepare = prepare
        self._lock = threading.Lock()
        self._worker: tuple[BaseProcess, Connection] | None = None

    def __call__(self, *args: object) -> ResultT:
        """The function's result.

        Raises:
            BoundedError: It took too long, took the process down in another way, or raised an
                error.

        """
        with self._lock:
            self._worker = self._worker or self._start()
            pipe = self._worker[1]
            try:
                pipe.send(args)
                result, fault = pipe.recv()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self._end()
                raise BoundedError("it took too long") from None
        if fault is not None:
            raise BoundedError(fault)
        found: ResultT = result
        return found

    def close(self) -> None:
        """End the process, if one runs. Waits for a call that runs."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._worker is None:
            return
        process, pipe = self._worker
        self._worker = None
        pipe.close()
        process.kill()
        process.join()
        process.close()

    def _start(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._work, self._seconds, self._prepare), daemon=True
        )
        process.start()
        theirs.close()
        ours.recv()
        return process, ours


def _serve(
    pipe: Connection,
    work: Callable[..., object],
    seconds: float,
    prepare: Callable[[], None] | None,
) -> None:
    """Answer calls that come through the pipe; the system ends the process where one takes
    longer."""
    # An interrupt from the keyboard is for the process that asks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if prepare is not None:
        prepare()
    pipe.send(None)
    while True:
        try:
            args = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer: tuple[object, str | None]
        try:
            answer = (work(*args), None)
        except Exception as error:
            answer = (None, f"{type(error).__name__}: {error}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send(answer)
