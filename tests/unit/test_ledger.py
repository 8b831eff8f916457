"""The books: everything in a receipt is derived from the trajectories."""

from typing import Any

import numpy as np

from steersman.controls.control import Part
from steersman.controls.monitor import MonitorPart
from steersman.controls.search import SearchPart
from steersman.controls.steering import SteeringPart
from steersman.controls.thinking import ThinkingPart
from steersman.edits.edit import Edit, EditMetadata
from steersman.ledger import Generation, Ledger
from steersman.plan import Plan
from steersman.request import Endpoint, Request
from steersman.search.first_finish import FirstFinishPolicy
from steersman.steering.configuration import Configuration, EditTerm
from steersman.steering.plan import PlannedEdit, Steering
from steersman.thinking.governing import Governing
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import Piece, Prefix, Start, Trajectory
from steersman_client import Applied, AppliedEdit, FirstFinish, Receipt
from steersman_kernels.layout import CLASSES
from tests.unit.servers import MARKERS
from tests.unit.tracks import packed


def opened(
    ledger: Ledger, branches: int, reading: Reading | None = None
) -> tuple[Generation, list[Trajectory[Any]]]:
    """A generation with so many branches, each an engine request of its own."""
    generation = ledger.open(reading)
    trajectories: list[Trajectory[Any]] = [Trajectory(Start(n)) for n in range(branches)]
    generation.branches.extend(trajectories)
    generation.started.extend(trajectories)
    return generation, trajectories


def receipt_of(ledger: Ledger, *parts: Part, profile: str | None = None) -> Receipt:
    return Plan(Request(Endpoint.CHAT), 1000, profile, parts).receipt(ledger)


def grow(trajectory: Trajectory[object], text: str, finish_reason: str | None = None) -> None:
    trajectory.add(Piece((7,), text, finish_reason, None))


RACE = SearchPart(FirstFinishPolicy(), FirstFinish(method="first_finish", n=2))


def test_a_search_over_two_prompts() -> None:
    ledger = Ledger(clock=iter([10.0, 12.5]).__next__)
    for winner in (1, 0):
        run, branches = opened(ledger, 2)
        run.branch_max_tokens = 9
        for one in branches:
            one.prefill_tokens = 4
            one.advance(5, None)
            one.advance(1, "stop" if one.branch == winner else "abort")
        run.outcome = Outcome((branches[winner],), "first" if winner else "fallback")
    receipt = receipt_of(ledger, RACE, profile="fast")
    search = receipt.applied.search
    assert search is not None
    assert (search.launched, search.finished, search.cancelled) == (4, 2, 2)
    assert (search.winner, search.winners) == (1, (1, 0))
    assert search.decided_by == "fallback"
    assert search.branch_max_tokens == 9
    compute = receipt.compute
    assert (compute.sampled_tokens, compute.returned_tokens, compute.cancelled_tokens) == (
        24,
        12,
        12,
    )
    assert (compute.lost_tokens, compute.sequential_tokens) == (0, 6)
    assert compute.prefill_tokens == 16
    assert compute.wall_ms == 2500.0


def test_a_plain_run_returns_all_that_it_sampled() -> None:
    ledger = Ledger()
    for one in opened(ledger, 2)[1]:
        one.advance(3, "stop")
    receipt = receipt_of(ledger)
    assert receipt.applied.search is None
    assert receipt.compute.returned_tokens == receipt.compute.sampled_tokens == 6


def test_limits_and_seeds_of_what_is_returned() -> None:
    ledger = Ledger()
    for limit, seeds in ((9, (5, 6)), (7, (5, 6))):
        run, branches = opened(ledger, 2)
        run.branch_max_tokens = limit
        for one, seed in zip(branches, seeds, strict=True):
            one.seed = seed
    applied = receipt_of(ledger).applied
    assert (applied.max_tokens, applied.max_tokens_by_choice) == (9, (9, 9, 7, 7))
    assert applied.seeds == (5, 6, 5, 6)
    ledger.generations[1].branch_max_tokens = 9
    for run in ledger.generations:
        run.outcome = Outcome((run.branches[1],), "first")
    applied = receipt_of(ledger, RACE).applied
    assert (applied.max_tokens, applied.max_tokens_by_choice, applied.seeds) == (9, None, (6, 6))


def test_without_a_seed_there_is_none_to_name() -> None:
    ledger = Ledger()
    assert receipt_of(ledger).applied == Applied()
    opened(ledger, 1)[0].branch_max_tokens = 4
    assert receipt_of(ledger).applied == Applied(max_tokens=4)


def test_running_branches_are_neither_finished_nor_cancelled() -> None:
    ledger = Ledger()
    done, aborted, running = opened(ledger, 3)[1]
    done.advance(1, "length")
    aborted.advance(1, "abort")
    running.advance(1, None)
    assert (ledger.finished, ledger.cancelled, ledger.running) == (1, 1, 1)


def test_the_furthest_branch_leads_as_long_as_it_runs() -> None:
    run, branches = opened(Ledger(), 2)
    grow(branches[1], "x")
    leader = run.leader()
    assert leader is not None
    assert (leader.branch, leader.tokens, leader.text) == (1, 1, "x")
    for _ in range(3):
        grow(branches[0], "a")
    grow(branches[1], "y", "length")
    leader = run.leader()
    assert leader is not None
    assert (leader.branch, leader.tokens, leader.text) == (0, 3, "aaa")
    grow(branches[0], "b", "stop")
    assert run.leader() is None


def test_an_edits_tokens_are_those_of_the_returned_branches() -> None:
    edit = Edit(
        {0: np.eye(1, 8, dtype=np.float32)[0]},
        {0: np.ones((2, 4), np.float32)},
        EditMetadata(
            weight=1.0, heads={0: (0, 3)}, head_dim=4, dtype="float32", weights={0: "0" * 64}
        ),
    )
    chosen = Steering(
        (), Configuration.of((), EditTerm(edit.digest, 0.5)), PlannedEdit("calm", edit, 0.5)
    )
    ledger = Ledger()
    for _ in range(2):
        run, branches = opened(ledger, 2)
        for one, edited in zip(branches, (40, 7), strict=True):
            one.steered = (*(0 for _ in CLASSES), edited)
        run.outcome = Outcome((branches[1],), "first")
    opened(ledger, 1)  # broke off before anything was reported

    live = AppliedEdit(edit="steady", digest="0123456789abcdef", heads=3)
    plan = Plan(Request(Endpoint.CHAT), 1000, None, (RACE, SteeringPart(chosen)))
    applied = plan.receipt(ledger, [live]).applied

    assert applied.steer == ()
    assert applied.edits == (live,)
    assert applied.thinkedit is not None
    assert applied.thinkedit.model_dump() == {
        "edit": "calm",
        "digest": edit.digest[:16],
        "strength": 0.5,
        "heads": 2,
        "tokens": 14,
    }
    assert receipt_of(ledger).applied.thinkedit is None


def watched(*token_ids: int) -> Track:
    return Track([*token_ids], [packed(1.0, closed_by=1) for _ in token_ids])


WATCHED = (ThinkingPart(Governing(), MARKERS), MonitorPart(tokens=True, markers=MARKERS))


def test_governed_and_monitored_choices_in_the_order_of_the_response() -> None:
    ledger = Ledger()
    first, branches = opened(ledger, 2, Reading(MARKERS, opened=True))
    _, (second,) = opened(ledger, 1)
    branches[0].track = watched(7, 7, 2, 9)
    branches[1].track = watched(7, 2, 9)
    first.outcome = Outcome((branches[1],), "first")

    # The second generation's branch broke off before it was watched.
    single = receipt_of(ledger, *WATCHED)
    assert single.applied.thinking is not None
    assert single.applied.thinking.tokens == 1
    assert single.entropy is not None
    assert single.entropy.tokens is not None
    assert [token_id for token_id, _, _ in single.entropy.tokens] == [7, 2, 9]
    assert single.applied.thinking_by_choice is None
    assert single.entropy_by_choice is None

    second.track = watched(1, 7, 7, 7)
    several = receipt_of(ledger, *WATCHED)
    assert several.applied.thinking == single.applied.thinking
    assert [choice.tokens for choice in several.applied.thinking_by_choice or ()] == [1, 3]
    assert [choice.answer is None for choice in several.entropy_by_choice or ()] == [False, True]


def test_branches_without_a_track_are_in_no_report() -> None:
    ledger = Ledger()
    opened(ledger, 1)
    receipt = receipt_of(ledger, *WATCHED)
    assert receipt.applied.thinking is None
    assert receipt.entropy is None


def test_finished_losers_and_probes_are_lost() -> None:
    ledger = Ledger()
    generation, branches = opened(ledger, 3)
    for one, (tokens, reason) in zip(
        branches, ((6, "stop"), (4, "stop"), (5, "abort")), strict=True
    ):
        one.advance(tokens, reason)
    probe = Start(0, prefix=Prefix(branches[0], 3), suffix=(2,), bare=True, after=3)
    generation.started.append(Trajectory(probe))
    generation.started[-1].advance(9, "stop")
    generation.outcome = Outcome((branches[0],), "first")
    compute = ledger.compute()
    assert compute.sampled_tokens == 24
    assert (compute.returned_tokens, compute.cancelled_tokens, compute.lost_tokens) == (6, 5, 13)
    assert compute.sequential_tokens == 12


def test_a_fork_counts_its_own_tokens_and_its_parent_keeps_those_before() -> None:
    ledger = Ledger()
    generation, (parent,) = opened(ledger, 1)
    parent.advance(10, "abort")
    fork: Trajectory[Any] = Trajectory(Start(0, prefix=Prefix(parent, 4), after=6))
    fork.advance(4, None)
    fork.advance(5, "stop")
    generation.started.append(fork)
    generation.outcome = Outcome((fork,), "first")
    compute = ledger.compute()
    assert (compute.sampled_tokens, compute.returned_tokens) == (15, 9)
    assert (compute.cancelled_tokens, compute.lost_tokens) == (6, 0)
    assert compute.sequential_tokens == 11


def test_turns_of_a_tool_loop_wait_for_each_other_and_prompts_do_not() -> None:
    for in_turn, tokens in ((True, 7), (False, 4)):
        ledger = Ledger(in_turn=in_turn)
        for count in (3, 4):
            opened(ledger, 1)[1][0].advance(count, "stop")
        assert ledger.compute().sequential_tokens == tokens
