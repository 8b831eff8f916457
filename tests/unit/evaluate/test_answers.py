"""Equivalence of answers."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import pytest

from steersman.evaluate.answers import Comparer, after_thinking


@pytest.fixture(scope="module")
def comparer() -> Iterator[Comparer]:
    with Comparer() as comparer:
        yield comparer


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("42", "42"),
        ("42", r"The answer is \boxed{42}."),
        ("42", r"First \boxed{7}, no: \boxed{42.0}"),
        ("42", "So she pays $42 in all."),
        ("42", r"\boxed{\frac{84}{2}}"),
        ("1042", r"\boxed{1,042}"),
        ("0.5", r"\boxed{1/2}"),
        (r"\frac{1}{2}", r"\boxed{0.5}"),
        ("x^2+2x", r"\boxed{x(x+2)}"),
        ("Paris", r"It is \boxed{paris}."),
    ],
)
def test_the_same_answer_is_right(comparer: Comparer, expected: str, text: str) -> None:
    assert comparer.equivalent(expected, text)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("42", ""),
        ("42", "  \n"),
        ("42", "I do not know."),
        ("42", r"\boxed{41}"),
        ("42", r"\boxed{42}, or rather \boxed{7}"),
        ("42", r"It is 42, \boxed{}"),
        ("x^2", r"\boxed{x}"),
        ("dog", r"\boxed{god}"),
    ],
)
def test_another_answer_is_wrong(comparer: Comparer, expected: str, text: str) -> None:
    assert not comparer.equivalent(expected, text)


@pytest.mark.parametrize(
    "expected", ["42", "1,042", "-0.5", r"\frac{1}{2}", "x^2+2x", "(1, 2)", "Paris", "the dog"]
)
def test_numbers_expressions_and_words_are_understood(comparer: Comparer, expected: str) -> None:
    assert comparer.understands(expected)


@pytest.mark.parametrize("expected", ["%&", "???", r"\frac{1", "->"])
def test_what_is_none_of_them_is_not_understood(comparer: Comparer, expected: str) -> None:
    assert not comparer.understands(expected)


ENDLESS = r"\boxed{10^{10^{10}} - 10^{10^{9}}}"


def test_a_comparison_without_end_is_given_up_and_the_next_one_works() -> None:
    others = set(multiprocessing.active_children())

    def running() -> set[BaseProcess]:
        return set(multiprocessing.active_children()) - others

    with Comparer(seconds=2) as comparer:
        assert comparer.equivalent("7", r"\boxed{14/2}")
        assert len(running()) == 1
        assert not comparer.equivalent("7", ENDLESS)
        assert not running()
        assert comparer.equivalent("7", r"\boxed{14/2}")
        assert len(running()) == 1
    assert not running()


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("4", "4"),
        ("<think>2 + 2</think>4", "4"),
        ("2 + 2</think>4", "4"),
        ("<think>2 + 2 is 4", ""),
    ],
)
def test_the_answer_is_what_follows_the_thinking(content: str, answer: str) -> None:
    assert after_thinking(content) == answer
