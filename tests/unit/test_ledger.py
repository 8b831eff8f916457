"""The books: everything in a receipt is derived from the lines."""

import numpy as np

from steersman.edits.edit import Edit, EditMetadata
from steersman.ledger import Ledger
from steersman.search.first_finish import Outcome
from steersman.steering.configuration import Configuration, EditTerm
from steersman.steering.plan import PlannedEdit, Steering
from steersman.thinking.governing import Governing
from steersman.trajectory.line import Line, Piece
from steersman.trajectory.track import Track
from steersman_client import Applied, AppliedEdit, Monitor, Receipt
from steersman_kernels.layout import CLASSES, Value
from tests.unit.servers import MARKERS


def grow(line: Line[object], text: str, finish_reason: str | None = None) -> None:
    line.add(Piece((7,), text, finish_reason, None))


def test_a_search_over_two_prompts() -> None:
    ledger = Ledger(clock=iter([10.0, 12.5]).__next__)
    for winner in (1, 0):
        run = ledger.open(2)
        run.branch_max_tokens = 9
        for line in run.lines:
            line.prefill_tokens = 4
            line.advance(5, None)
            line.advance(1, "stop" if line.branch == winner else "abort")
        run.outcome = Outcome((run.lines[winner],), "first" if winner else "fallback")
    receipt = ledger.receipt(profile="fast", search="first_finish")
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
    assert compute.prefill_tokens == 16
    assert compute.wall_ms == 2500.0


def test_a_plain_run_returns_all_that_it_sampled() -> None:
    ledger = Ledger()
    for line in ledger.open(2).lines:
        line.advance(3, "stop")
    receipt = ledger.receipt(profile=None, search=None)
    assert receipt.applied.search is None
    assert receipt.compute.returned_tokens == receipt.compute.sampled_tokens == 6


def test_limits_and_seeds_of_what_is_returned() -> None:
    ledger = Ledger()
    for limit, seeds in ((9, (5, 6)), (7, (5, 6))):
        run = ledger.open(2)
        run.branch_max_tokens = limit
        for line, seed in zip(run.lines, seeds, strict=True):
            line.seed = seed
    applied = ledger.receipt(profile=None, search=None).applied
    assert (applied.max_tokens, applied.max_tokens_by_choice) == (9, (9, 9, 7, 7))
    assert applied.seeds == (5, 6, 5, 6)
    ledger.runs[1].branch_max_tokens = 9
    for run in ledger.runs:
        run.outcome = Outcome((run.lines[1],), "first")
    applied = ledger.receipt(profile=None, search="first_finish").applied
    assert (applied.max_tokens, applied.max_tokens_by_choice, applied.seeds) == (9, None, (6, 6))


def test_without_a_seed_there_is_none_to_name() -> None:
    ledger = Ledger()
    assert ledger.receipt(profile=None, search=None).applied == Applied()
    ledger.open(1).branch_max_tokens = 4
    assert ledger.receipt(profile=None, search=None).applied == Applied(max_tokens=4)


def test_running_lines_are_neither_finished_nor_cancelled() -> None:
    ledger = Ledger()
    done, aborted, running = ledger.open(3).lines
    done.advance(1, "length")
    aborted.advance(1, "abort")
    running.advance(1, None)
    assert (ledger.finished, ledger.cancelled, ledger.running) == (1, 1, 1)


def test_the_furthest_line_leads_as_long_as_it_runs() -> None:
    run = Ledger().open(2)
    grow(run.lines[1], "x")
    leader = run.leader()
    assert leader is not None
    assert (leader.branch, leader.tokens, leader.text) == (1, 1, "x")
    for _ in range(3):
        grow(run.lines[0], "a")
    grow(run.lines[1], "y", "length")
    leader = run.leader()
    assert leader is not None
    assert (leader.branch, leader.tokens, leader.text) == (0, 3, "aaa")
    grow(run.lines[0], "b", "stop")
    assert run.leader() is None


def test_an_edits_tokens_are_those_of_the_returned_lines() -> None:
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
        run = ledger.open(2)
        for line, edited in zip(run.lines, (40, 7), strict=True):
            line.steered = (*(0 for _ in CLASSES), edited)
        run.outcome = Outcome((run.lines[1],), "first")
    ledger.open(1)  # broke off before anything was reported

    live = AppliedEdit(edit="steady", digest="0123456789abcdef", heads=3)
    applied = ledger.receipt(
        profile=None, search="first_finish", steering=chosen, edits=[live]
    ).applied

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
    assert ledger.receipt(profile=None, search=None).applied.thinkedit is None


def watched(*token_ids: int) -> Track:
    return Track([*token_ids], [Value(1.0, -1.0, 0.5, 0.0, 1, 0).packed() for _ in token_ids])


def test_governed_and_monitored_choices_in_the_order_of_the_response() -> None:
    ledger = Ledger()
    first, second = ledger.open(2, opened=True), ledger.open(1)
    first.lines[0].track = watched(7, 7, 2, 9)
    first.lines[1].track = watched(7, 2, 9)
    first.outcome = Outcome((first.lines[1],), "first")

    def receipt() -> Receipt:
        return ledger.receipt(
            profile=None,
            search=None,
            governing=Governing(),
            monitor=Monitor(tokens=True),
            markers=MARKERS,
        )

    # The second run's line broke off before it was watched.
    single = receipt()
    assert single.applied.thinking is not None
    assert single.applied.thinking.tokens == 1
    assert single.entropy is not None
    assert single.entropy.tokens is not None
    assert [token_id for token_id, _, _ in single.entropy.tokens] == [7, 2, 9]
    assert single.applied.thinking_by_choice is None
    assert single.entropy_by_choice is None

    second.lines[0].track = watched(1, 7, 7, 7)
    several = receipt()
    assert several.applied.thinking == single.applied.thinking
    assert [choice.tokens for choice in several.applied.thinking_by_choice or ()] == [1, 3]
    assert [choice.answer is None for choice in several.entropy_by_choice or ()] == [False, True]


def test_lines_without_a_track_are_in_no_report() -> None:
    ledger = Ledger()
    ledger.open(1)
    receipt = ledger.receipt(
        profile=None, search=None, governing=Governing(), monitor=Monitor(), markers=MARKERS
    )
    assert receipt.applied.thinking is None
    assert receipt.entropy is None
