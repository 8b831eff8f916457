"""Chained variables in shuffled order. Difficulty d has d + 1 assignments after the first."""

from itertools import pairwise
from random import Random

from steersman.puzzles.tasks.program import Operation, ProgramPuzzle, first_in_range

_NAMES = "abcdefghkmnpqrstuvwxyz"
_LARGEST_TERM = 12
_LARGEST_FACTOR = 5


def draw(rng: Random, difficulty: int) -> ProgramPuzzle:
    """One chain whose values are all in range."""
    return first_in_range(lambda: _draw(rng, difficulty + 1))


def _draw(rng: Random, length: int) -> ProgramPuzzle:
    names = rng.sample(_NAMES, length + 1)
    first = rng.randint(1, _LARGEST_TERM)
    operations = []
    operands = [first]
    for before, name in pairwise(names):
        sign = rng.choice("++--*")
        operand = rng.randint(2, _LARGEST_FACTOR) if sign == "*" else rng.randint(1, _LARGEST_TERM)
        operations.append(Operation(name, before, sign, operand, named=True))
        operands.append(operand)
    assignments = [f"{names[0]}={first}"]
    assignments += [f"{step.name}={step.left}{step.sign}{step.right}" for step in operations]
    rng.shuffle(assignments)
    prompt = "\n".join([*assignments, f"{names[-1]}=?"])
    return ProgramPuzzle(prompt, tuple(operands), tuple(operations), ((names[0], first),))
