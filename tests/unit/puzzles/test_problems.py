"""The reasoner's problems: determinism, splits, verifiers."""

import ast
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.puzzles.problems import (
    BEYOND,
    KINDS,
    TRAINED,
    Problem,
    final_answer,
    problems,
    puzzles,
    split_of,
    verify,
)
from steersman.puzzles.tasks.countdown import numbers_in, value

ALL_CELLS = [(kind, grade) for kind in KINDS for grade in TRAINED + BEYOND]


def response(answer: str) -> str:
    return f"<think>\n={answer}\n</think>\n\nThe answer is \\boxed{{{answer}}}."


@pytest.mark.parametrize(("kind", "grade"), ALL_CELLS)
def test_same_arguments_same_problems(kind: str, grade: int) -> None:
    first = problems(kind, grade, "held_out", seed=3, count=20)
    assert first == problems(kind, grade, "held_out", seed=3, count=20)
    assert first != problems(kind, grade, "held_out", seed=4, count=20)
    assert len({problem.id for problem in first}) == 20
    assert {(problem.kind, problem.difficulty) for problem in first} == {(kind, grade)}


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    longer = problems("chain", 2, "held_out", seed=0, count=30)
    assert longer[:10] == problems("chain", 2, "held_out", seed=0, count=10)


def test_no_operands_are_in_both_splits() -> None:
    def operands(split: str, grades: tuple[int, ...]) -> set[tuple[int, ...]]:
        return {
            tuple(sorted(puzzle.operands))
            for kind in KINDS
            for grade in grades
            for puzzle in islice(puzzles(kind, grade, split, 0), 60)  # type: ignore[arg-type]
        }

    assert not operands("train", TRAINED) & operands("held_out", TRAINED + BEYOND)


@given(st.lists(st.integers(0, 99), min_size=2, max_size=8))
def test_the_order_of_operands_does_not_change_the_split(numbers: list[int]) -> None:
    assert split_of(tuple(numbers)) == split_of(tuple(reversed(numbers)))


def test_about_an_eighth_is_held_out() -> None:
    sets = [(a, b, c) for a in range(20) for b in range(a, 20) for c in range(b, 20)]
    share = sum(split_of(numbers) == "held_out" for numbers in sets) / len(sets)
    assert 0.10 < share < 0.15


def test_prompts_state_the_operands_that_decide_the_split() -> None:
    for kind, grade in ALL_CELLS:
        for puzzle in islice(puzzles(kind, grade, "held_out", 1), 20):
            for operand in puzzle.operands:
                assert str(operand) in puzzle.prompt


def test_the_reference_answers_of_arithmetic_are_right() -> None:
    for grade in TRAINED + BEYOND:
        for problem in problems("arithmetic", grade, "held_out", 0, 50):
            assert str(value(problem.prompt.removesuffix("=?"))) == problem.answer


def test_the_reference_answers_of_chains_are_right() -> None:
    for grade in TRAINED + BEYOND:
        for problem in problems("chain", grade, "held_out", 0, 50):
            *assignments, question = problem.prompt.split("\n")
            meanings = dict(line.split("=") for line in assignments)
            expression = question.removesuffix("=?")
            while names := {node.id for node in ast.walk(ast.parse(expression))
                            if isinstance(node, ast.Name)}:  # fmt: skip
                for name in names:
                    expression = expression.replace(name, f"({meanings[name]})")
            assert str(value(expression)) == problem.answer


@pytest.mark.parametrize(("kind", "grade"), ALL_CELLS)
def test_a_right_answer_is_accepted_and_a_wrong_one_is_not(kind: str, grade: int) -> None:
    for problem in problems(kind, grade, "held_out", 0, 20):
        assert verify(problem, response(problem.answer))
        assert not verify(problem, response(f"{problem.answer}1"))
        assert not verify(problem, response("-"))
        assert not verify(problem, response(""))


def test_only_the_last_box_after_thinking_counts() -> None:
    problem = Problem("p", "arithmetic", 1, "1+1+1=?", "3")
    assert verify(problem, "</think>\\boxed{4} no, \\boxed{ 3 }")
    assert not verify(problem, "</think>\\boxed{3} no, \\boxed{4}")
    assert not verify(problem, "<think>\\boxed{3}")
    assert not verify(problem, "\\boxed{3}")
    assert not verify(problem, "\\boxed{3}</think>3")
    assert final_answer("<think>\n</think>\n\nnone") is None


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("19+18-12", True),
        ("18+19-12", True),
        ("18-(12-19)", True),
        ("25", False),
        ("12+13", False),
        ("19+18-12-0", False),
        ("19+18+12", False),
        ("__import__('os')", False),
        ("1" * 5000, False),
        ("True+19+18-12", False),
    ],
)
def test_countdown_is_verified_by_evaluation(answer: str, right: bool) -> None:
    problem = Problem("p", "countdown", 1, "Make 25 from 12,18,19.", "19+18-12")
    assert verify(problem, response(answer)) is right


def test_countdown_targets_are_reached_with_the_numbers_given() -> None:
    for grade in TRAINED + BEYOND:
        for problem in problems("countdown", grade, "held_out", 0, 15):
            target, numbers = problem.prompt.removeprefix("Make ").removesuffix(".").split(" from ")
            assert value(problem.answer) == int(target)
            assert numbers_in(problem.answer) == sorted(map(int, numbers.split(",")))


@pytest.mark.parametrize(
    ("kind", "grade", "split", "named"),
    [
        ("poetry", 1, "train", "kind='poetry'"),
        ("chain", 0, "train", "difficulty=0"),
        ("chain", BEYOND[0], "train", f"difficulty={BEYOND[0]}"),
        ("chain", 1, "test", "split='test'"),
    ],
)
def test_impossible_cells_are_refused_by_name(
    kind: str, grade: int, split: str, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        problems(kind, grade, split, 0, 1)  # type: ignore[arg-type]


def test_an_exhausted_cell_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steersman.puzzles.problems._PATIENCE", 50)
    with pytest.raises(ValueError, match="count=100000"):
        problems("countdown", 1, "held_out", 0, 100_000)
