"""Trajectories as rewards may look at them."""

import numpy as np
import pytest

from steersman.reward.candidate import Candidate, Measure
from steersman.trajectory.reading import Reading
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import Piece, Start, Trajectory
from steersman_kernels.layout import TRACK
from tests.unit.search.scripted import CLOSE, MARKERS, OPEN, WORDS
from tests.unit.tracks import packed

READING = Reading(markers=MARKERS)


def trajectory(*token_ids: int, forced: int = 0) -> Trajectory[None]:
    """One of these tokens, measured: the k-th has the log-prob -k and the entropy 10 k."""
    one: Trajectory[None] = Trajectory(Start(0))
    for token in token_ids:
        one.add(Piece((token,), WORDS.get(token, f" {token}"), None, None))
    values = [packed(10.0 * k, -float(k), forced=int(k < forced)) for k in range(len(token_ids))]
    one.track = Track([*token_ids], values)
    return one


def test_thinking_and_answer_are_told_apart() -> None:
    one = Candidate.of(
        trajectory(OPEN, 7, 8, CLOSE, 9, 10), READING, prompt="Q", messages=({"role": "user"},)
    )
    assert (one.text, one.thinking, one.answer) == ("<think> 7 8</think> 9 10", " 7 8", " 9 10")
    assert (one.tokens, one.answer_tokens, one.closed) == (6, 2, True)
    assert (one.prompt, one.messages) == ("Q", ({"role": "user"},))
    assert one.measured(Measure.LOGPROB).tolist() == [0, -1, -2, -3, -4, -5]


def test_the_answer_alone_is_seen_without_a_trace_of_the_thinking() -> None:
    one = Candidate.of(trajectory(OPEN, 7, 8, CLOSE, 9, 10), READING)
    seen = one.seen("answer")
    assert (seen.text, seen.thinking, seen.tokens) == (" 9 10", "", 2)
    assert seen.measured(Measure.LOGPROB).tolist() == [-4, -5]
    assert seen.measured(Measure.ENTROPY).tolist() == [40, 50]
    assert one.seen("all") == one


def test_a_prompt_that_has_opened_the_thinking() -> None:
    one = Candidate.of(trajectory(7, CLOSE, 9), Reading(MARKERS, opened=True))
    assert (one.thinking, one.answer, one.answer_tokens) == (" 7", " 9", 1)


def test_a_response_without_thinking_is_an_answer() -> None:
    for reading in (READING, Reading()):
        one = Candidate.of(trajectory(7, 8), reading)
        assert (one.thinking, one.answer, one.answer_tokens) == ("", " 7 8", 2)


def test_thinking_that_is_not_closed_has_no_answer() -> None:
    one = Candidate.of(trajectory(OPEN, 7, 8), READING)
    assert (one.thinking, one.answer, one.closed, one.answer_tokens) == (" 7 8", None, False, 0)
    assert one.seen("answer").text == ""
    assert len(one.seen("answer").measured(Measure.TOP)) == 0


def test_an_empty_answer_is_one() -> None:
    one = Candidate.of(trajectory(OPEN, 7, CLOSE), READING)
    assert (one.thinking, one.answer, one.closed, one.answer_tokens) == (" 7", "", True, 0)


def test_tokens_that_were_put_there_are_not_measured() -> None:
    one = Candidate.of(trajectory(OPEN, 7, CLOSE, 9, forced=3), READING)
    assert one.measured(Measure.LOGPROB).tolist() == [-3]


def test_missing_measurements_are_told() -> None:
    with pytest.raises(ValueError, match="no measurements of logprob"):
        Candidate("a", "a").measured(Measure.LOGPROB)
    one = trajectory(7, 8)
    assert one.track is not None
    del one.track.values[1]
    with pytest.raises(ValueError, match="no measurements of top"):
        Candidate.of(one, READING).measured(Measure.TOP)
    gap = Candidate("a", "a", tokens=1, track=np.array([[np.nan] * (TRACK - 1) + [0]]))
    with pytest.raises(ValueError, match="of entropy at some"):
        gap.measured(Measure.ENTROPY)
