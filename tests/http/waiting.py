"""Waiting for a server: never for ever, and without a race against its engine."""

import contextlib
import time
from collections.abc import Callable, Iterator

import psutil

from tests.http.server import Server

SECONDS = 120.0
"""Longer than anything takes on a busy machine."""
_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 0.5


def wait_until(holds: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something holds; fails if it does not in so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not in {seconds:g} s"
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def suspended(server: Server) -> Iterator[None]:
    """The engine stands still, and the front end goes on: no request can end."""
    engine = [psutil.Process(pid) for pid in server.children()]
    for process in engine:
        process.suspend()
    try:
        yield
    finally:
        for process in engine:
            process.resume()


def wait_for_all(server: Server, begun: Callable[[], object]) -> None:
    """Wait until all requests that were sent have begun, and none has ended.

    The engine runs for no longer than a look takes, and the front end all the time, so that no
    request ends before the last has begun, however slow the machine is.
    """
    deadline = time.monotonic() + SECONDS
    while not begun():
        assert time.monotonic() < deadline, f"not in {SECONDS:g} s"
        with suspended(server):
            time.sleep(_PAUSE_SECONDS)
