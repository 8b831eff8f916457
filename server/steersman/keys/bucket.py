"""A token bucket that is charged afterwards."""

import time
from collections.abc import Callable


class Bucket:
    """Tokens that may be used; it fills evenly, up to what a minute brings.

    The tokens of a request are not known before, so the level can fall below zero.

    Args:
        per_minute: Tokens that come in a minute, and the most that it holds.
        clock: Seconds, from any zero; must never go back.

    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._level = self._most
        self._then = clock()

    def take(self, tokens: int) -> None:
        """Take out tokens that were used."""
        self._fill()
        self._level -= tokens

    def wait(self) -> float:
        """Seconds until something is in it; 0 if there is."""
        self._fill()
        return 0.0 if self._level > 0 else (1 - self._level) / self._per_second

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._then) * self._per_second)
        self._then = now
