"""A countdown game: make a target from given numbers, each used once.

Grades: 1 three numbers, sums only; 2 three numbers and a product; 3 four small numbers, sums only;
4 four numbers, sums only; 5 four numbers and a product; 6 five numbers, sums only.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from random import Random

from steersman.puzzles.tasks.program import APPLY
from steersman.puzzles.tasks.puzzle import LARGEST, Slip, misread


@dataclass(frozen=True)
class _Grade:
    count: int
    largest: int
    products: bool


_GRADES: Mapping[int, _Grade] = {
    1: _Grade(3, 12, products=False),
    2: _Grade(3, 9, products=True),
    3: _Grade(4, 9, products=False),
    4: _Grade(4, 12, products=False),
    5: _Grade(4, 9, products=True),
    6: _Grade(5, 12, products=False),
}

# No expression of the game comes near this; it bounds what `value` will parse.
_LONGEST = 100

_SIGNS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


@dataclass(frozen=True)
class CountdownPuzzle:
    """A target and the search for it: `attempts` in the order tried, the last one hits."""

    numbers: tuple[int, ...]
    target: int
    attempts: tuple[str, ...]

    @property
    def prompt(self) -> str:
        return f"Make {self.target} from {','.join(map(str, self.numbers))}."

    @property
    def answer(self) -> str:
        return self.attempts[-1]

    @property
    def operands(self) -> tuple[int, ...]:
        return self.numbers

    def lines(self) -> tuple[str, ...]:
        return tuple(self._line(attempt, value(attempt)) for attempt in self.attempts)

    def review(self) -> tuple[str, ...]:
        return self.lines()[-1:]

    def slip(self, index: int, rng: Random) -> Slip:
        """A miscalculated attempt: taken for a hit when it is none, missed when it is one."""
        lines = self.lines()
        attempt = self.attempts[index]
        last = index == len(lines) - 1
        result = misread(self.target, rng)[0] if last else self.target
        return Slip(self._line(attempt, result), lines[index], (), lines[index:])

    def _line(self, attempt: str, result: int) -> str:
        return f"{attempt}={result} {'yes' if result == self.target else 'no'}"


def draw(rng: Random, difficulty: int) -> CountdownPuzzle:
    """One target that can be reached, and a blind search for it without repetition."""
    grade = _GRADES[difficulty]
    numbers = tuple(rng.randint(1, grade.largest) for _ in range(grade.count))
    attempts = sorted(set(_candidates(sorted(numbers, reverse=True), grade.products)))
    rng.shuffle(attempts)
    target = value(rng.choice(attempts))
    hit = next(i for i, attempt in enumerate(attempts) if value(attempt) == target)
    return CountdownPuzzle(numbers, target, tuple(attempts[: hit + 1]))


def value(expression: str) -> int:
    """The value of an expression of whole numbers, `+`, `-` and `*`; ValueError for others."""
    return _value(_parse(expression))


def numbers_in(expression: str) -> list[int]:
    """The numbers of such an expression in ascending order; ValueError as in `value`."""
    leaves = (node for node in ast.walk(_parse(expression)) if isinstance(node, ast.Constant))
    return sorted(_value(leaf) for leaf in leaves)


def _candidates(numbers: Sequence[int], products: bool) -> Iterator[str]:
    """Expressions over `numbers` (descending) with values in range; at most one product."""
    yield from _sums([str(number) for number in numbers])
    if products:
        for i, j in combinations(range(len(numbers)), 2):
            rest = [str(number) for k, number in enumerate(numbers) if k not in (i, j)]
            yield from _sums([f"{numbers[i]}*{numbers[j]}", *rest])


def _sums(terms: Sequence[str]) -> Iterator[str]:
    """The first term with the others added or taken away."""
    for signs in product("+-", repeat=len(terms) - 1):
        pairs = zip(signs, terms[1:], strict=True)
        expression = terms[0] + "".join(sign + term for sign, term in sorted(pairs))
        if 0 <= value(expression) <= LARGEST:
            yield expression


def _parse(expression: str) -> ast.expr:
    if len(expression) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} characters")
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not an expression: {expression!r}") from error


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SIGNS:
            return APPLY[_SIGNS[type(op)]](_value(left), _value(right))
    raise ValueError(f"only whole numbers, +, - and * are allowed, not {ast.unparse(node)!r}")
