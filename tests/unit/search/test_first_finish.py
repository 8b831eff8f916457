"""First Finish Search against scripted trajectories: who wins, who is stopped, what is counted."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.search.first_finish import FirstFinishPolicy
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.trajectory import Trajectory
from steersman_client import FirstFinish
from tests.unit.search.scripted import CLOSE, MARKERS, OPEN, Script, ScriptedSource, scripted

pytestmark = pytest.mark.anyio


def spec(n: int, **fields: Any) -> FirstFinish:
    return FirstFinish(method="first_finish", n=n, **fields)


async def search(
    scripts: Sequence[Script], *, choices: int = 1, markers: Any = None, **fields: Any
) -> tuple[Outcome[int], ScriptedSource, list[Trajectory[int]]]:
    run = scripted(scripts, choices, markers)
    fields = {"require_answer": True, **fields}
    outcome = await FirstFinishPolicy().run(spec(len(scripts), **fields), run)
    assert isinstance(run.source, ScriptedSource)
    return outcome, run.source, run.started


def words(count: int, **kwargs: str) -> Script:
    return Script(["w"] * count, **kwargs)


async def test_the_first_to_finish_wins_and_the_rest_are_stopped_once() -> None:
    outcome, source, run = await search([words(9), words(3), words(7)])
    assert [one.branch for one in outcome.winners] == [1]
    assert outcome.decided_by == "first"
    assert source.stopped == 1
    assert run[0].aborted
    assert run[2].aborted
    assert run[0].tokens < 9
    assert sorted(source.ended) == [0, 1, 2]


async def test_nothing_runs_on_after_a_failure_to_stop_it() -> None:
    run = scripted([words(2), words(50)], 1, None)

    async def stop(_: Any) -> None:
        raise ConnectionError("the engine is dead")

    source: Any = run.source
    source.stop = stop
    with pytest.raises(ConnectionError) as caught:
        await FirstFinishPolicy().run(spec(2, require_answer=False), run)
    assert caught.value.__traceback__ is not None  # which would hold what was left open
    assert sorted(source.ended) == [0, 1]


async def test_a_branch_at_its_token_limit_does_not_win_while_others_run() -> None:
    outcome, _, _ = await search([words(2, finish_reason="length"), words(6)])
    assert outcome.winners[0].branch == 1
    assert outcome.decided_by == "first"


async def test_a_branch_without_an_answer_does_not_win_while_others_run() -> None:
    blank = Script([OPEN, "t", CLOSE, " ", "\n"])
    unclosed = Script([OPEN, "t"])
    good = Script([OPEN, "t", "t", "t", "t", CLOSE, "42"])
    outcome, _, _ = await search([blank, unclosed, good], markers=MARKERS)
    assert outcome.winners[0].branch == 2
    outcome, _, _ = await search([blank, unclosed, good], markers=MARKERS, require_answer=False)
    assert outcome.winners[0].branch == 1


async def test_a_branch_that_hardly_thought_does_not_win_while_others_run() -> None:
    short = Script([OPEN, "t", CLOSE, "a"])
    long = Script([OPEN, *["t"] * 5, CLOSE, "b"])
    for floor, winner in ((0, 0), (1, 0), (2, 1), (5, 1)):
        outcome, _, _ = await search([short, long], markers=MARKERS, min_thinking=floor)
        assert outcome.winners[0].branch == winner, floor
        assert outcome.decided_by == "first"


async def test_with_no_able_branch_the_best_of_the_others_is_the_fallback() -> None:
    length = words(2, finish_reason="length")
    blank = Script([OPEN, "t", "t", CLOSE, " "])
    short = Script([OPEN, "t", CLOSE, "a", "b", "c"])
    outcome, source, _ = await search([length, blank, short], markers=MARKERS, min_thinking=9)
    assert outcome.decided_by == "fallback"
    assert outcome.winners[0].branch == 2
    assert source.stopped == 0
    outcome, _, _ = await search([length, blank], markers=MARKERS, min_thinking=9)
    assert outcome.winners[0].branch == 1


async def test_several_choices_are_the_first_finishers_in_their_order() -> None:
    outcome, _, run = await search([words(8), words(4), words(2), words(9)], choices=2)
    assert [one.branch for one in outcome.winners] == [2, 1]
    assert run[3].aborted


async def test_too_few_able_finishers_are_filled_up() -> None:
    outcome, _, _ = await search([words(2, finish_reason="length"), words(4)], choices=2)
    assert [one.branch for one in outcome.winners] == [1, 0]
    assert outcome.decided_by == "fallback"


async def test_k_finishers_vote() -> None:
    scripts = [Script(["x", "7"]), Script(["x", "x", "8"]), Script(["x", "x", "x", "8"]), words(20)]
    scripts = [Script([*s.tokens[:-1], f"\n{s.tokens[-1]}"]) for s in scripts[:3]] + [scripts[3]]
    outcome, _, run = await search(scripts, k=3)
    assert outcome.decided_by == "vote"
    assert outcome.winners[0].branch == 1
    assert outcome.applied == {"votes": (("8", 2), ("7", 1))}
    assert run[3].aborted


async def test_a_request_aborted_by_somebody_else_ends_with_what_there_is() -> None:
    aborted = [words(1, finish_reason="abort"), words(1, finish_reason="abort")]
    outcome, source, _ = await search(aborted)
    assert outcome.decided_by == "fallback"
    assert outcome.winners[0].aborted
    assert source.stopped == 0


async def test_an_engine_error_ends_all_branches() -> None:
    run = scripted([Script(["w"] * 3, error=RuntimeError("engine")), words(50)])
    with pytest.raises(RuntimeError, match="engine"):
        await FirstFinishPolicy().run(spec(2), run)
    assert isinstance(run.source, ScriptedSource)
    assert sorted(run.source.ended) == [0, 1]


async def test_cancelling_the_search_ends_all_branches() -> None:
    run = scripted([words(1000), words(1000)])
    assert isinstance(run.source, ScriptedSource)
    task = asyncio.create_task(FirstFinishPolicy().run(spec(2), run))
    for _ in range(20):
        await asyncio.sleep(0)
    assert run.source.started == [0, 1]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(run.source.ended) == [0, 1]


@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(["stop", "length"])), min_size=1, max_size=8
    )
)
def test_the_winner_is_a_shortest_able_branch(ends: list[tuple[int, str]]) -> None:
    scripts = [words(length, finish_reason=reason) for length, reason in ends]

    async def run() -> Outcome[int]:
        outcome, _, _ = await search(scripts)
        return outcome

    outcome = asyncio.run(run())
    able = [length for length, reason in ends if reason == "stop"]
    winner = ends[outcome.winners[0].branch]
    if able:
        assert winner == (min(able), "stop")
    else:
        assert outcome.decided_by == "fallback"
