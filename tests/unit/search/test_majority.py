"""Majority voting against scripted branches: whose vote counts, which response is returned."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.search.majority import MajorityPolicy
from steersman.trajectory.outcome import Outcome
from steersman_client import Majority
from tests.unit.search.scripted import CLOSE, MARKERS, OPEN, Script, ScriptedSource, scripted

pytestmark = pytest.mark.anyio


def answering(answer: str, words: int = 1, **fields: Any) -> Script:
    """A branch that says some words, then its answer in a line of its own."""
    return Script([*["w"] * words, f"\n{answer}"], **fields)


async def vote(
    scripts: Sequence[Script], *, choices: int = 1, markers: Any = None, **fields: Any
) -> Outcome[int]:
    run = scripted(scripts, choices, markers)
    spec = Majority(method="majority", n=len(scripts), **fields)
    outcome = await MajorityPolicy().run(spec, run)
    assert isinstance(run.source, ScriptedSource)
    assert sorted(run.source.ended) == [*range(len(scripts))]
    assert run.source.stopped == 0
    return outcome


def branches(outcome: Outcome[int]) -> list[int]:
    return [one.branch for one in outcome.winners]


async def test_the_shortest_response_with_the_most_frequent_answer_is_returned() -> None:
    scripts = [answering("7"), answering("8", 9), answering("8", 5), answering("8.", 7)]
    outcome = await vote(scripts)
    assert branches(outcome) == [2]
    assert outcome.decided_by == "vote"
    assert outcome.applied == {"votes": (("8", 3), ("7", 1))}


async def test_a_tie_goes_to_the_answer_that_was_given_first() -> None:
    assert branches(await vote([answering("8", 4), answering("7", 2)])) == [1]
    scripts = [answering("8", 2), answering("7", 3), answering("7", 4), answering("8", 9)]
    assert branches(await vote(scripts)) == [0]


async def test_who_was_cut_off_or_has_no_answer_has_no_vote() -> None:
    cut = answering("8", 2, finish_reason="length")
    blank = Script([OPEN, "t", CLOSE, " ", "\n"])
    unclosed = Script([OPEN, "t"])
    outcome = await vote([cut, cut, blank, unclosed, answering("7", 9)], markers=MARKERS)
    assert branches(outcome) == [4]
    assert outcome.applied == {"votes": (("7", 1),)}
    outcome = await vote([blank, blank, answering("7")], markers=MARKERS, require_answer=False)
    assert branches(outcome) == [0]


async def test_who_hardly_thought_has_no_vote() -> None:
    short = Script([OPEN, "t", CLOSE, "\n7"])
    long = Script([OPEN, *["t"] * 5, CLOSE, "\n8"])
    assert branches(await vote([short, short, long], markers=MARKERS)) == [0]
    outcome = await vote([short, short, long], markers=MARKERS, min_thinking=5)
    assert branches(outcome) == [2]


async def test_with_nobody_to_vote_the_best_of_the_others_is_the_fallback() -> None:
    cut = answering("8", 2, finish_reason="length")
    short = Script([OPEN, "t", CLOSE, "\n7"])
    outcome = await vote([cut, short], markers=MARKERS, min_thinking=9)
    assert branches(outcome) == [1]
    assert outcome.decided_by == "fallback"
    assert outcome.applied == {"votes": ()}


async def test_choices_are_the_best_answers_then_more_of_the_best() -> None:
    scripts = [answering(a, w) for a, w in (("8", 9), ("8", 3), ("8", 5), ("7", 2), ("6", 1))]
    assert branches(await vote(scripts, choices=2)) == [1, 4]
    assert branches(await vote(scripts, choices=4)) == [1, 4, 3, 2]
    outcome = await vote([*scripts[:2], answering("8", 1, finish_reason="length")], choices=3)
    assert branches(outcome) == [1, 0, 2]
    assert outcome.decided_by == "fallback"


@given(st.lists(st.tuples(st.sampled_from("678"), st.integers(1, 9)), min_size=1, max_size=8))
def test_no_answer_has_more_votes_than_the_winners(given_: list[tuple[str, int]]) -> None:
    outcome = asyncio.run(vote([answering(answer, words) for answer, words in given_]))
    answers = [answer for answer, _ in given_]
    winner, words = given_[outcome.winners[0].branch]
    assert answers.count(winner) == max(answers.count(answer) for answer in answers)
    assert words == min(words for answer, words in given_ if answer == winner)
    assert sum(count for _, count in outcome.applied["votes"]) == len(given_)
