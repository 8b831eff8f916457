"""Comparison of an answer's text with the right answer."""

import logging
import re
from typing import Self

from steersman.bounded import Bounded, BoundedError
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
        self._compare = Bounded(_compare, seconds, _prepare)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if one runs."""
        self._compare.close()

    def understands(self, expected: str) -> bool:
        """True if texts can be compared with `expected`: words, or what `math-verify` can parse."""
        if _WORDS.fullmatch(expected.strip()):
            return True
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
        return self._ask(_boxed(expected), text if boxed is None else _boxed(boxed))

    def _ask(self, expected: str, given: str | None) -> bool:
        try:
            return self._compare(expected, given)
        except BoundedError:
            return False


def _boxed(expression: str) -> str:
    return f"\\boxed{{{expression}}}"


def _prepare() -> None:
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)


def _compare(expected: str, given: str | None) -> bool:
    """Compare two texts; without a second one, tell whether the first is understood."""
    from math_verify import parse, verify

    if given is None:
        return bool(parse(expected, fallback_mode="no_fallback", parsing_timeout=None))
    right = parse(expected, parsing_timeout=None)
    answer = parse(given, parsing_timeout=None)
    return bool(verify(right, answer, timeout_seconds=None))
