"""Interface of a puzzle for the problem list and the trace writer."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

# Every number a problem or a trace contains lies in 0 … LARGEST.
LARGEST = 99

# The ways a hand calculation goes wrong: off by one or two, or a missed carry.
_ERRORS = (-10, -2, -1, 1, 2, 10)


@dataclass(frozen=True)
class Slip:
    """A wrong line and everything that may follow it.

    `right` corrects the line at once. `astray` goes on from the wrong line as if it were true, and
    `review` is then what a check of the whole working writes.
    """

    wrong: str
    right: str
    astray: tuple[str, ...]
    review: tuple[str, ...]


class Puzzle(Protocol):
    """A problem together with its working, line by line."""

    @property
    def prompt(self) -> str:
        """The question, as the user asks it."""

    @property
    def answer(self) -> str:
        """The content of the final box."""

    @property
    def operands(self) -> tuple[int, ...]:
        """All numbers that the problem is made of; their multiset decides the split."""

    def lines(self) -> tuple[str, ...]:
        """The complete working; each line is true and the last one states the answer."""

    def review(self) -> tuple[str, ...]:
        """Lines that a check of the complete working writes again."""

    def slip(self, index: int, rng: Random) -> Slip:
        """A slip in line `index`, 0 <= index < len(lines())."""


def misread(value: int, rng: Random) -> Sequence[int]:
    """The plausible wrong results near `value`, in random order; never `value` itself."""
    near = [value + error for error in _ERRORS if 0 <= value + error <= LARGEST]
    rng.shuffle(near)
    return near
