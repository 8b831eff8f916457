"""Use of keys: their requests in flight and their tokens, held to the limits of each key."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from steersman.errors import ControlError
from steersman.keys.bucket import Bucket
from steersman.keys.key import Key

RETRY_SECONDS = 1
"""A wait for something whose end nobody knows."""


class LimitError(ControlError):
    """A request over a limit of its key.

    Args:
        key: The key.
        limit: The limit's name.
        reason: The excess.
        retry_after: Seconds until the request may be made again.
        hopeless: Whether the same request is over the limit at any time.

    """

    def __init__(
        self, key: Key, limit: str, reason: str, retry_after: float, *, hopeless: bool = False
    ) -> None:
        value = getattr(key.limits, limit)
        headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}
        if hopeless:
            headers["x-should-retry"] = "false"  # OpenAI's clients go by it
        super().__init__(
            f"key {key.name!r} is over its limit {limit} = {value}: {reason}",
            param=None,
            status=429,
            code="rate_limit_exceeded",
            headers=headers,
        )


class Usage:
    """Use of one key on this server.

    Args:
        key: The key.
        refused: Called with the name of a limit that refuses a request.
        clock: Seconds, from any zero; must never go back.

    """

    def __init__(
        self,
        key: Key,
        refused: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.key = key
        self.running = 0
        """Requests in flight."""
        rate = key.limits.tokens_per_minute
        self._bucket = Bucket(rate, clock) if rate is not None else None
        self._refused = refused

    def check(self, *, samples: bool = True) -> None:
        """Let a further request in.

        Args:
            samples: Whether it may make the engine sample tokens.

        Raises:
            LimitError: The key has as many requests in flight as it may, or no tokens left.

        """
        most = self.key.limits.concurrency
        if most is not None and self.running >= most:
            reason = f"it has {self.running} requests in flight"
            raise self.over("concurrency", reason, RETRY_SECONDS)
        if samples and self._bucket is not None and (wait := self._bucket.wait()):
            raise self.over("tokens_per_minute", f"it may go on in {wait:.1f} s", wait)

    def over(
        self, limit: str, reason: str, retry_after: float, *, hopeless: bool = False
    ) -> LimitError:
        """The error for a request over a limit, which is counted; to be raised."""
        self._refused(limit)
        return LimitError(self.key, limit, reason, retry_after, hopeless=hopeless)

    def charge(self, tokens: int) -> None:
        """Take note of tokens that were sampled."""
        if self._bucket is not None:
            self._bucket.take(tokens)


class Pass:
    """A request with a key, for as long as anything of it runs.

    Args:
        usage: The use of its key.

    """

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self.key = usage.key
        self.refused: LimitError | None = None
        """The limit that refused it after its route had been entered."""
        self._holders = 0
        self._branches = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Count the request as in flight: it is until all who hold it have ended."""
        self.usage.running += not self._holders
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self.usage.running -= not self._holders

    def started(self, branches: int) -> None:
        """Take note of branches that start."""
        self._branches += branches

    def ended(self, branches: int) -> None:
        """Take note of branches that have ended."""
        self._branches -= branches

    def check_fan_out(self, branches: int) -> None:
        """Let branches start beside those that run.

        Raises:
            LimitError: They are more than a request with this key may have.

        """
        most, whole = self.key.limits.fan_out, self._branches + branches
        if most is not None and whole > most:
            reason = f"the request asks for {whole} branches"
            self.refused = self.usage.over("fan_out", reason, RETRY_SECONDS, hopeless=True)
            raise self.refused


PASS: ContextVar[Pass | None] = ContextVar("steersman_pass", default=None)
"""Set for a request with a key, in its own task and every task that it starts."""
