"""Arithmetic with precedence: `3+4*2-5=?`. Difficulty d has d + 2 operands."""

from random import Random

from steersman.puzzles.tasks.program import Operand, Operation, ProgramPuzzle, first_in_range

_LARGEST_TERM = 12
_LARGEST_FACTOR = 9
_PRODUCT_SHARE = 0.3


def draw(rng: Random, difficulty: int) -> ProgramPuzzle:
    """One expression whose intermediate results are all in range."""
    return first_in_range(lambda: _draw(rng, difficulty + 2))


def _draw(rng: Random, count: int) -> ProgramPuzzle:
    signs: list[str] = []
    for _ in range(count - 1):
        product = rng.random() < _PRODUCT_SHARE and signs[-1:] != ["*"]
        signs.append("*" if product else rng.choice("+-"))
    operands = [
        rng.randint(2, _LARGEST_FACTOR) if "*" in signs[max(i - 1, 0) : i + 1]
        else rng.randint(1, _LARGEST_TERM)
        for i in range(count)
    ]  # fmt: skip
    expression = str(operands[0]) + "".join(
        f"{sign}{operand}" for sign, operand in zip(signs, operands[1:], strict=True)
    )
    return ProgramPuzzle(f"{expression}=?", tuple(operands), _schedule(operands, signs))


def _schedule(operands: list[int], signs: list[str]) -> tuple[Operation, ...]:
    """Products first, then sums, each from left to right."""
    terms: list[Operand] = list(operands)
    signs = list(signs)
    operations: list[Operation] = []
    while signs:
        at = signs.index("*") if "*" in signs else 0
        step = Operation(f"r{len(operations)}", terms[at], signs.pop(at), terms.pop(at + 1))
        terms[at] = step.name
        operations.append(step)
    return tuple(operations)
