"""Placeholders: filled in where they are the whole string, refused where there is no such fact."""

from dataclasses import replace
from typing import Any

import pytest

from steersman.evaluate.error import EvaluationError
from steersman.evaluate.placeholders import check, fill
from tests.unit.evaluate.made_up import SEARCH, problems


def asking(value: Any) -> dict[str, Any]:
    return {"search": {"target": {"reward": [{"name": "verify", "data": {"reference": value}}]}}}


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("{answer}", "1"),
        ("{id}", "p1"),
        ("{question}", "{question}"),
        ("so {answer}", "so {answer}"),
        (r"\d{1}", r"\d{1}"),
        (["{id}", {"{answer}": "{answer}"}], ["p1", {"{answer}": "1"}]),
        (3, 3),
        (None, None),
    ],
)
def test_a_placeholder_stands_for_a_fact_of_the_problem(value: Any, filled: Any) -> None:
    control = asking(value)
    assert fill(control, problems(2)[1]) == asking(filled)
    assert control == asking(value)


def test_no_control_stays_none() -> None:
    assert fill(None, problems(1)[0]) is None


def test_an_answer_that_is_not_known_is_refused_with_control_and_problem() -> None:
    known, unknown = problems(2)
    asked = [known, replace(unknown, answer="")]
    check({"single": None, "search": SEARCH, "by id": asking("{id}")}, asked)
    check({"answer": asking("{answer}")}, [known])
    with pytest.raises(EvaluationError, match=r"'answer' has \{answer\}, but problem p1 has no"):
        check({"single": None, "answer": asking("{answer}")}, asked)
