"""The end of a server: what is under way may finish until a deadline, then it is told."""

import asyncio
import contextlib
import logging
import os
import signal
from typing import Protocol

logger = logging.getLogger(__name__)

TELLING_SECONDS = 5.0
"""Time that requests have, after the deadline, to give their clients an error."""

_AGAIN_SECONDS = 0.5
_SAID_SECONDS = 5.0
"""How often it says that as many are still in flight."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STDERR = 2
_MESSAGE = "the server is shutting down; try again, or another one"


class Starting:
    """Ends the process on SIGTERM while its server starts, with exit code 0.

    As a container's first process, one without a handler would not be ended by it at all. Raises
    `SystemExit`: nothing on the way takes it for a fault, and the event loop lets it pass.
    """

    def __init__(self) -> None:
        self._told = False

    def listen(self) -> None:
        """Handle the signal from now on; vLLM's server and `Ending` replace that."""
        signal.signal(signal.SIGTERM, self._stop)

    def check(self) -> None:
        """Raise it once more: what is raised in a finalizer, or at an import's end, gets lost."""
        if self._told:
            raise SystemExit(0)

    def _stop(self, *_: object) -> None:
        if self._told:
            return  # what the first signal has begun is under way
        self._told = True
        with contextlib.suppress(OSError):
            os.write(_STDERR, b"steersman: told to stop before the server was ready\n")
        raise SystemExit(0)


class Server(Protocol):
    """The part of uvicorn's server that ends it."""

    should_exit: bool
    """Once true, it takes no more connections, and returns when those that it has are done."""


class Answering(Protocol):
    """The part of the engine client, or of the rewards, that answers requests in flight."""

    def refuse(self, reason: str) -> int:
        """Answer all requests, those in flight and those to come, with HTTP 503.

        Returns:
            The number of those in flight.

        """
        ...


class Ending:
    """Ends a server on SIGTERM or SIGINT.

    At the first signal the server takes no more connections, and the requests in flight go on: a
    search still starts the branches that it needs. At the deadline, or at a second signal, the rest
    are answered with an error. Then the server returns.

    Args:
        seconds: From the signal to the deadline; 0 answers them at once.

    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next: asyncio.TimerHandle | None = None
        self._said: tuple[int, float] | None = None  # a number, and when

    @property
    def begun(self) -> bool:
        """True from the first signal on."""
        return self._next is not None

    def listen(self, server: Server, *answering: Answering) -> None:
        """Handle the signals from now on, in the running loop."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.begin, server, *answering)

    def begin(self, server: Server, *answering: Answering) -> None:
        """Handle a signal."""
        if self._next is None:
            logger.info("Ending: requests in flight have %g s to finish", self._seconds)
            server.should_exit = True
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(self._seconds, self._tell, *answering)
        else:
            self._next.cancel()
            self._tell(*answering)

    def close(self) -> None:
        """Tell nobody any more: nothing is in flight."""
        if self._next is not None:
            self._next.cancel()

    def _tell(self, *answering: Answering) -> None:
        """Answer what is in flight, and soon again: a search can be between two branches."""
        self._say(sum(one.refuse(_MESSAGE) for one in answering))
        self._next = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._tell, *answering)

    def _say(self, told: int) -> None:
        """Log how many were told, when that has changed, and now and then."""
        now = asyncio.get_running_loop().time()
        if self._said is not None:
            number, at = self._said
            if told == number and now - at < _SAID_SECONDS:
                return
        self._said = told, now
        logger.info("Ending: answered with an error, as they are still in flight: %d", told)
