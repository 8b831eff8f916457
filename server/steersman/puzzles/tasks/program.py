"""Puzzles whose working is a straight-line program: one operation a line."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from steersman.puzzles.tasks.puzzle import LARGEST, Slip, misread

APPLY: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}

# A literal number, or the name of an earlier result.
Operand = int | str


@dataclass(frozen=True)
class Operation:
    """`name = left sign right`; the line shows the name only when `named`."""

    name: str
    left: Operand
    sign: str
    right: Operand
    named: bool = False


@dataclass(frozen=True)
class ProgramPuzzle:
    """A question that is answered by running `operations` in order."""

    prompt: str
    operands: tuple[int, ...]
    operations: tuple[Operation, ...]
    start: tuple[tuple[str, int], ...] = ()

    @property
    def answer(self) -> str:
        return str(self.results()[-1])

    def results(self) -> tuple[int, ...]:
        """The true result of every operation."""
        return tuple(result for _, result in self._run())

    def lines(self) -> tuple[str, ...]:
        return tuple(line for line, _ in self._run())

    def review(self) -> tuple[str, ...]:
        return self.lines()

    def slip(self, index: int, rng: Random) -> Slip:
        lines, results = self.lines(), self.results()
        wrong_results = misread(results[index], rng)
        for result in wrong_results:
            run = self._run(index, result)
            if all(0 <= value <= LARGEST for _, value in run):
                wrong, *astray = [line for line, _ in run[index:]]
                return Slip(wrong, lines[index], tuple(astray), lines)
        wrong = self._run(index, wrong_results[0])[index][0]
        return Slip(wrong, lines[index], (), lines)

    def _run(self, slip: int | None = None, result: int = 0) -> list[tuple[str, int]]:
        """Lines with their results; operation `slip`, if any, is given the wrong `result`."""
        values = dict(self.start)
        run = []
        for index, step in enumerate(self.operations):
            left, right = _value(step.left, values), _value(step.right, values)
            value = result if index == slip else APPLY[step.sign](left, right)
            values[step.name] = value
            prefix = f"{step.name}=" if step.named else ""
            run.append((f"{prefix}{left}{step.sign}{right}={value}", value))
        return run


def first_in_range(draw: Callable[[], ProgramPuzzle]) -> ProgramPuzzle:
    """The first puzzle drawn whose intermediate results all lie in 0 … LARGEST."""
    while True:
        puzzle = draw()
        if all(0 <= value <= LARGEST for value in puzzle.results()):
            return puzzle


def _value(operand: Operand, values: Mapping[str, int]) -> int:
    return operand if isinstance(operand, int) else values[operand]
