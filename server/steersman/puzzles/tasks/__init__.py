"""One module per kind of problem; every module draws puzzles of a graded difficulty."""

from collections.abc import Mapping
from random import Random
from typing import Protocol

from steersman.puzzles.tasks import arithmetic, chain, count, countdown, words
from steersman.puzzles.tasks.puzzle import Puzzle


class Draw(Protocol):
    """Draws one puzzle of a difficulty."""

    def __call__(self, rng: Random, difficulty: int) -> Puzzle: ...


TASKS: Mapping[str, Draw] = {
    "arithmetic": arithmetic.draw,
    "chain": chain.draw,
    "count": count.draw,
    "countdown": countdown.draw,
    "words": words.draw,
}
