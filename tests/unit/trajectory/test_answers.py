"""Votes: what counts as the same answer, and who represents the winner."""

import pytest

from steersman.trajectory.answers import canonical, last_boxed, majority


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("Step one.\nThe answer is 5.\n\n", "the answer is 5"),
        ("$1,234$", "1234"),
        ("1,23", "1,23"),
        ("A,  B", "a, b"),
        (r"\boxed{unclosed", r"\boxed{unclosed"),
        ("", ""),
    ],
)
def test_the_compared_part_of_an_answer(answer: str, expected: str) -> None:
    assert canonical(answer) == expected


def test_nested_braces_belong_to_the_box() -> None:
    assert last_boxed(r"x \boxed{a{b}{c}} y") == "a{b}{c}"
    assert last_boxed("none") is None


def test_the_most_frequent_answer_wins_and_its_first_voter_speaks_for_it() -> None:
    tally = majority(["3", r"\boxed{4}", "4", "3", "4."])
    assert tally.winner == 1
    assert tally.votes == (("4", 3), ("3", 2))


def test_a_tie_goes_to_the_answer_given_first() -> None:
    assert majority(["2", "1", "1", "2"]).winner == 0


def test_blank_answers_do_not_vote() -> None:
    assert majority(["", " ", "7"]).winner == 2
    assert majority(["", ""]) == majority([""])
