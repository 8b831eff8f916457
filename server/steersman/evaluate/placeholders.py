"""Placeholders in controls: strings that stand for facts of the problem that is asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from steersman.evaluate.error import EvaluationError
from steersman.evaluate.problems import Problem

PLACEHOLDERS = ("{answer}", "{id}")
"""A string that is one of these stands for that field of the problem; part of a longer string it
stands for itself."""

Control = dict[str, Any] | None


def fill(control: Control, problem: Problem) -> Control:
    """A control with the facts of a problem in place of its placeholders."""
    filled: Control = _filled(control, problem)
    return filled


def check(controls: Mapping[str, Control], problems: Sequence[Problem]) -> None:
    """Refuse controls that ask for what a problem does not have.

    Raises:
        EvaluationError: A control has `{answer}`, and the answer of a problem is not known.

    """
    for name, control in controls.items():
        for placeholder in _placeholders(control):
            for problem in problems:
                if not _fact(problem, placeholder):
                    raise EvaluationError(
                        f"control {name!r} has {placeholder}, but problem {problem.id} has no "
                        f"{placeholder[1:-1]}"
                    )


def _filled(part: Any, problem: Problem) -> Any:
    match part:
        case dict():
            return {key: _filled(value, problem) for key, value in part.items()}
        case list():
            return [_filled(value, problem) for value in part]
        case str() if part in PLACEHOLDERS:
            return _fact(problem, part)
        case _:
            return part


def _placeholders(part: Any) -> Iterator[str]:
    match part:
        case dict():
            yield from _placeholders_of(part.values())
        case list():
            yield from _placeholders_of(part)
        case str() if part in PLACEHOLDERS:
            yield part


def _placeholders_of(parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        yield from _placeholders(part)


def _fact(problem: Problem, placeholder: str) -> str:
    fact: str = getattr(problem, placeholder[1:-1])
    return fact
