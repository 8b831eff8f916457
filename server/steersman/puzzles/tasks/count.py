"""Comparing and counting. Difficulty d lists d + 3 numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from steersman.puzzles.tasks.puzzle import Slip

_LARGEST = 50
_WORDS = {True: "over", False: "under"}


@dataclass(frozen=True)
class CountPuzzle:
    """Count of the `numbers` over (or under) `limit`; no number equals the limit."""

    numbers: tuple[int, ...]
    limit: int
    over: bool

    @property
    def prompt(self) -> str:
        listed = ",".join(map(str, self.numbers))
        return f"How many of {listed} are {_WORDS[self.over]} {self.limit}?"

    @property
    def answer(self) -> str:
        return str(sum(self._verdicts()))

    @property
    def operands(self) -> tuple[int, ...]:
        return (*self.numbers, self.limit)

    def lines(self) -> tuple[str, ...]:
        return self._tell(self._verdicts())

    def review(self) -> tuple[str, ...]:
        return self.lines()

    def slip(self, index: int, rng: Random) -> Slip:
        verdicts = self._verdicts()
        verdicts[index] = not verdicts[index]
        wrong, *astray = self._tell(verdicts)[index:]
        lines = self.lines()
        return Slip(wrong, lines[index], tuple(astray), lines)

    def _verdicts(self) -> list[bool]:
        return [(number > self.limit) == self.over for number in self.numbers]

    def _tell(self, verdicts: Sequence[bool]) -> tuple[str, ...]:
        """A line a number, with the running count."""
        return tuple(
            f"{number} {'yes' if verdict else 'no'} {sum(verdicts[: index + 1])}"
            for index, (number, verdict) in enumerate(zip(self.numbers, verdicts, strict=True))
        )


def draw(rng: Random, difficulty: int) -> CountPuzzle:
    """One list of distinct numbers and a limit that is not among them."""
    *numbers, limit = rng.sample(range(1, _LARGEST + 1), difficulty + 4)
    return CountPuzzle(tuple(numbers), limit, rng.random() < 0.5)
