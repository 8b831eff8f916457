"""Room in vLLM's queue for all branches of a request, from its admission until they begin.

vLLM admits a request before anything of it runs, and counts each engine request against its limits
when that begins (`--max-num-queued-reqs`, `--max-num-queued-tokens`). In between another request
could be admitted to the same room, and one of the two would lack a branch.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from vllm.engine.protocol import EngineClient

from steersman.engine.compat.requests import admit_by


@dataclass(slots=True, eq=False)
class Places:
    """Places in the queue that one HTTP request has.

    Attributes:
        kept: Engine requests that are admitted and have not begun.
        waiting: The number of these that a trajectory is going to take.
        called: The number of these that a call without control is going to take.
        over: Whether the HTTP request has ended, so that nothing is kept for it any more.

    """

    kept: int = 0
    waiting: int = 0
    called: int = 0
    over: bool = False

    def admit(self, engine: EngineClient, n: int, request_id: str) -> None:
        """Have places for more engine requests; those that are kept for nothing yet count.

        Args:
            engine: The engine client, above the `Queue`.
            n: The number of engine requests.
            request_id: Id of the call.

        Raises:
            GracefulHTTPError: The queue has no room for all of them.

        """
        lacking = n - max(0, self.kept - self.waiting - self.called)
        if lacking > 0:
            engine.check_admission(lacking, request_id)

    def admit_call(self, engine: EngineClient, n: int, request_id: str) -> None:
        """Have places for a call without control, which begins when its first output is waited for.

        vLLM admits a request with the choices of one prompt, and makes the calls of all its prompts
        before any of them begins.

        Args:
            engine: The engine client, above the `Queue`.
            n: The number of the call's choices.
            request_id: Id of the call.

        Raises:
            GracefulHTTPError: The queue has no room for all of them.

        """
        self.admit(engine, n, request_id)
        self.called += n

    def begin(self, n: int) -> bool:
        """Take places for an engine request that begins; False if there are none for it."""
        self.called = max(0, self.called - n)
        if self.kept < n:
            return False
        self.kept -= n
        return True


PLACES: ContextVar[Places | None] = ContextVar("steersman_places", default=None)
"""Places of the HTTP request, for its own task and every task that it starts."""


@contextlib.contextmanager
def places() -> Iterator[Places]:
    """Places of an HTTP request, for the body of the `with`; those that are left are given back."""
    own = Places()
    token = PLACES.set(own)
    try:
        yield own
    finally:
        own.kept, own.over = 0, True
        PLACES.reset(token)


class Queue:
    """A stand-in for the engine client that keeps the room to which requests were admitted.

    An engine request that begins takes a place of its HTTP request, in the same moment in which
    vLLM counts it, and is then not looked at again. One without a place is admitted by itself, to
    the room that is kept for nobody.

    Args:
        engine: vLLM's engine client; from now on it asks here about each engine request that
            begins.

    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._holders: set[Places] = set()
        self._check = admit_by(engine, self._begin)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Admit engine requests, all or none, and keep their places.

        Raises:
            GracefulHTTPError: The queue has no room for all of them.

        """
        self._refuse_over(n, request_id)
        own = PLACES.get()
        if own is not None and not own.over:
            own.kept += n
            self._holders.add(own)

    def _begin(self, n: int = 1, request_id: str | None = None) -> None:
        """Admit an engine request that begins, of n choices."""
        own = PLACES.get()
        if own is None or not own.begin(n):
            self._refuse_over(n, request_id)

    def _refuse_over(self, n: int, request_id: str | None) -> None:
        """Refuse what does not fit beside all that is kept."""
        self._holders = {one for one in self._holders if one.kept}
        self._check(n + sum(one.kept for one in self._holders), request_id)
