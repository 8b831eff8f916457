"""Waiting for a server: never for ever, and without a race against its engine."""

import contextlib
import time
from collections.abc import Callable, Iterator

import httpx
import psutil

from tests.http.server import Server

SECONDS = 300.0
"""Longer than anything takes on a busy machine."""
SOON = 30.0
"""Long enough, on a busy machine, for what ends at once."""
_POLL_SECONDS = 0.1
_RESTING_SECONDS = 0.5


def wait_until(holds: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something holds; fails if it does not in so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not in {seconds:g} s"
        time.sleep(_POLL_SECONDS)


def impatient(seconds: float) -> httpx.Timeout:
    """A client that hangs up if it hears nothing for so many seconds, once its request is sent."""
    return httpx.Timeout(SECONDS, read=seconds)


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


def wait_for_rest(server: Server) -> None:
    """Wait until the front end has done all that it can do for now.

    What it got while its engine is suspended is then with the engine, however slow the machine is.
    """
    front = psutil.Process(server.process_id)

    def rests() -> bool:
        until = time.monotonic() + _RESTING_SECONDS
        while time.monotonic() < until:
            if front.status() != psutil.STATUS_SLEEPING:
                return False
            time.sleep(_RESTING_SECONDS / 20)
        return True

    wait_until(rests)
