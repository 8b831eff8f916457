"""Comparison of an answer's text with the right answer."""

import logging
import multiprocessing
import re
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Self

from steersman.trajectory.answers import canonical, last_boxed

# Computer algebra on what a model wrote can take for ever: `\boxed{9^{9^{9^9}}} - 1`.
_SECONDS = 10.0
_WORDS = re.compile(r"[^\W\d_]{2,}([\s'-]+[^\W\d_]+)*")


def after_thinking(content: str) -> str:
    """Text after the thinking phase, for a server that leaves the phase in the content."""
    if "</think>" in content:
        return content.rpartition("</think>")[2]
    return "" if "<think>" in content else content


class Comparer:
    """Compares answers with `math-verify`, in a process that is ended when one takes too long.

    Two texts are compared by their last `\\boxed{…}`, or without one what `math-verify` extracts.
    A right answer that consists of words is compared as text. Callable from any thread.

    Args:
        seconds: Processor time for one comparison, whatever else the machine does; past it the
            answer counts as wrong, and an expected one as not understood.

    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._worker: tuple[BaseProcess, Connection] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if one runs."""
        if self._worker is None:
            return
        process, pipe = self._worker
        self._worker = None
        pipe.close()
        process.kill()
        process.join()
        process.close()

    def understands(self, expected: str) -> bool:
        """True if texts can be compared with `expected`: words, or what `math-verify` can parse."""
        if _WORDS.fullmatch(expected.strip()):
            return True
        with self._lock:
            return self._ask(_boxed(expected), None)

    def equivalent(self, expected: str, text: str) -> bool:
        """True if `text` gives the answer `expected`."""
        if not text.strip():
            return False
        if canonical(text) == canonical(expected):
            return True
        if _WORDS.fullmatch(expected.strip()):
            return False
        boxed = last_boxed(text)
        with self._lock:
            return self._ask(_boxed(expected), text if boxed is None else _boxed(boxed))

    def _ask(self, expected: str, given: str | None) -> bool:
        self._worker = self._worker or _start(self._seconds)
        pipe = self._worker[1]
        try:
            pipe.send((expected, given))
            return bool(pipe.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # It took too long, or took the process down in another way.
            self.close()
            return False


def _boxed(expression: str) -> str:
    return f"\\boxed{{{expression}}}"


def _start(seconds: float) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, seconds), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    return process, ours


def _serve(pipe: Connection, seconds: float) -> None:
    """Compare what comes through the pipe; the system ends the process where one takes longer."""
    from math_verify import parse, verify

    # An interrupt from the keyboard is for the process that asks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    pipe.send(None)
    while True:
        try:
            expected, given = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)
        if given is None:
            found = bool(parse(expected, fallback_mode="no_fallback", parsing_timeout=None))
        else:
            right = parse(expected, parsing_timeout=None)
            answer = parse(given, parsing_timeout=None)
            found = bool(verify(right, answer, timeout_seconds=None))
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send(found)
