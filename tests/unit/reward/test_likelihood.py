"""The model's own measure of its response."""

from typing import Any

import pytest

from steersman.reward.candidate import Candidate, Measure
from steersman.reward.likelihood import Likelihood, LikelihoodSpec
from tests.unit.reward.made_up import track

pytestmark = pytest.mark.anyio

MEASURED = track((0.5, -1.0, 0.9, 0), (1.5, -2.0, 0.7, 0), (9.0, -9.0, 0.1, 1))
ONE = Candidate("ab", "ab", tokens=3, answer_tokens=3, track=MEASURED)


@pytest.mark.parametrize(
    ("by", "need", "score"),
    [
        ("logprob", Measure.LOGPROB, -1.5),
        ("entropy", Measure.ENTROPY, -1.0),
        ("confidence", Measure.TOP, 0.8),
    ],
)
async def test_the_mean_over_the_drawn_tokens(by: Any, need: Measure, score: float) -> None:
    reward = Likelihood(LikelihoodSpec(by=by))
    assert reward.needs == {need}
    assert await reward.score([ONE, ONE]) == pytest.approx([score, score])


async def test_a_response_without_tokens_is_the_worst() -> None:
    reward = Likelihood(LikelihoodSpec())
    assert await reward.score([Candidate("", "", track=MEASURED[:0])]) == [-40]


async def test_without_measurements_there_is_no_score() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        await Likelihood(LikelihoodSpec()).score([Candidate("a", "a", tokens=1)])
