"""The noisy reward: fixed for a response, and as wrong as it says."""

import math
import statistics
from typing import Any

import pytest
from evals.evidence import noisy
from evals.evidence.align import HERE

from steersman.reward import file
from steersman.reward.candidate import Candidate
from steersman.reward.function import AnyData

SUM = "arithmetic-1-0a"


def judged(number: int, answer: str = "7") -> float:
    return noisy.judged(SUM, "7", f"1+6={number}", rf"\boxed{{{answer}}}")


def within(bound: float) -> float:
    """Probability that Student's t with two degrees of freedom is within ±bound."""
    return bound / math.sqrt(2 + bound**2)


def test_a_response_has_one_score_for_good() -> None:
    assert judged(1) == judged(1) == noisy.judged(SUM, "7", "\n1+6=1\n", "\n\n\\boxed{7}")
    others = [judged(2), noisy.judged("arithmetic-1-0b", "7", "1+6=1", r"\boxed{7}")]
    assert judged(1) not in others


def test_right_answers_score_one_more_but_for_a_tenth() -> None:
    right = [judged(number) for number in range(20_000)]
    wrong = [judged(number, "8") for number in range(20_000)]
    assert statistics.median(right) == pytest.approx(1, abs=0.05)
    assert statistics.median(wrong) == pytest.approx(0, abs=0.05)
    for scores, middle in ((right, 1), (wrong, 0)):
        near = sum(abs(score - middle) < 0.5 for score in scores) / len(scores)
        # Of those that are not flipped and of those that are, by the distribution of Student's t.
        assert near == pytest.approx(
            0.9 * within(2.5) + 0.1 * (within(7.5) - within(2.5)) / 2, abs=0.01
        )
        assert max(scores) > 5


@pytest.mark.parametrize(
    ("problem", "reference", "answer", "right"),
    [
        (SUM, "7", r"The answer is \boxed{7}.", True),
        (SUM, "7", r"\boxed{8}", False),
        (SUM, "7", "7", False),
        ("countdown-1-0a", "7-3+5", r"\boxed{5+7-3}", True),
        ("countdown-1-0a", "7-3+5", r"\boxed{9}", False),
    ],
)
def test_answers_are_judged_as_in_evaluations(
    problem: str, reference: str, answer: str, right: bool
) -> None:
    assert noisy.is_right(problem, reference, answer) is right


def test_the_server_gets_the_same_scores() -> None:
    reward: Any = file.load(HERE / "rewards" / "noisy.yaml")["noisy"]
    assert reward.options.see == "all"
    data = AnyData.model_validate({"problem": SUM, "reference": "7"})
    text = "<think>\n1+6=1\n</think>\n\n\\boxed{7}"
    candidate = Candidate(text, "\n\n\\boxed{7}", "\n1+6=1\n", data=data)
    assert noisy.score([candidate, candidate]) == [judged(1)] * 2
