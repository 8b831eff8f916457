"""Receipts and live values, read from the tokens and the measurements of a trajectory."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.steering.configuration import Term
from steersman.steering.plan import PlannedTerm
from steersman.thinking import report
from steersman.thinking.governing import Governing
from steersman.thinking.report import LiveTrack
from steersman.trajectory.phases import Markers
from steersman.trajectory.track import Track
from steersman.vectors.vector import Vector, VectorMetadata
from steersman.wire import Law
from steersman_kernels.layout import CLASSES
from tests.unit.tracks import packed

ONE = Markers(start=(1,), end=(2,), start_text="<think>", end_text="</think>")
TWO = Markers(start=(1, 5), end=(2, 5), start_text="[[think", end_text="[[done")
VECTOR = Vector(
    {0: np.ones(4, np.float32)}, VectorMetadata(site="layer", method="test", strength=0.5)
)
LAW = Law(
    kind="proportional",
    target=0.3,
    gain=0.5,
    integral_gain=0.0,
    base=0.5,
    low=0.0,
    high=1.0,
    confidence=(0.65, 0.9),
    variance=(0.0005, 0.01),
)


def track(*token_ids: int, entropies: list[float] | None = None) -> Track:
    entropies = entropies or [float(token_id) for token_id in token_ids]
    return Track([*token_ids], [packed(entropy) for entropy in entropies])


def test_thinking_that_the_budget_closed() -> None:
    values = [packed(), packed(), packed(closed_by=2, forced=1), packed(closed_by=2)]
    # A step's value may come before its token.
    watched = Track([7, 8, 2, 9], [*values, packed(closed_by=2, forced=1)])
    applied = report.applied(watched, ONE, Governing(budget=2), opened=True)
    assert applied.model_dump() == {
        "tokens": 2,
        "closed_by": "budget",
        "closed_at": 2,
        "forced_tokens": 1,
        "min_answer_unmet": None,
        "probes": None,
        "balance": None,
    }


@pytest.mark.parametrize(
    ("token_ids", "opened", "tokens", "closed_at"),
    [
        ([], True, 0, None),
        ([7, 7], True, 2, None),
        ([7, 7], False, 0, None),
        ([3, 1, 7, 2, 9], False, 1, 3),
        ([7, 2, 9, 2], True, 1, 1),
    ],
)
def test_thinking_by_the_model_alone(
    token_ids: list[int], opened: bool, tokens: int, closed_at: int | None
) -> None:
    applied = report.applied(track(*token_ids), ONE, Governing(), opened=opened)
    assert (applied.tokens, applied.closed_at, applied.forced_tokens) == (tokens, closed_at, 0)
    assert applied.closed_by is None


def test_a_closing_marker_that_was_cut_off_closed_nothing_yet() -> None:
    cut = Track([7, 2], [packed(), packed(closed_by=5, forced=1)])
    applied = report.applied(cut, TWO, Governing(), opened=True)
    assert (applied.closed_by, applied.closed_at, applied.forced_tokens) == ("length", None, 1)


def test_the_strength_is_reported_where_it_changed() -> None:
    balance = PlannedTerm("calm", VECTOR, Term(VECTOR.digest, 1.0, phase="thinking"))
    strengths = [0.5, 0.5, 0.7, 0.7, 0.2, 0.2, 0.2]
    watched = Track([1, 7, 7, 7, 7, 2, 9], [packed(strength=strength) for strength in strengths])
    steered = tuple({"thinking": 5, "answer": 100, "prompt": 1000}[kind] for kind, _ in CLASSES)
    applied = report.applied(
        watched, ONE, Governing(law=LAW), opened=False, balance=balance, steered=(*steered, 3)
    ).balance
    assert applied is not None
    assert applied.model_dump() == {
        "vector": "calm",
        "digest": VECTOR.digest[:16],
        "law": "proportional",
        "mean_strength": 0.525,
        "tokens": 10,
        "track": ((1, 0.5), (2, 0.7), (4, 0.2)),
    }
    unthought = report.applied(
        track(7, 7), ONE, Governing(law=LAW), opened=False, balance=balance
    ).balance
    assert unthought is not None
    assert (unthought.mean_strength, unthought.tokens, unthought.track) == (None, 0, ())


def test_entropy_by_phase() -> None:
    watched = track(1, 7, 7, 2, 9, 9, entropies=[9.0, 1.0, 2.0, 9.0, 0.5, 0.0])
    seen = report.entropy(watched, ONE, opened=False, tokens=False)
    assert seen.model_dump() == {
        "thinking": {"mean": 1.5, "p95": 1.95, "max": 2.0, "tokens": 2},
        "answer": {"mean": 0.25, "p95": 0.475, "max": 0.5, "tokens": 2},
        "pear": 1.25,
        "tokens": None,
    }


def test_a_phase_without_tokens_counts_as_nothing() -> None:
    unanswered = report.entropy(track(7, 2), ONE, opened=True, tokens=False)
    assert unanswered.answer is None
    assert unanswered.pear == 7.0
    unthought = report.entropy(track(1, 2, 7), ONE, opened=False, tokens=False)
    assert unthought.thinking is None
    assert unthought.pear == 0.0


def test_thinking_that_was_never_closed_has_no_pear() -> None:
    assert report.entropy(track(7, 7), ONE, opened=True, tokens=False).pear is None
    for markers in (ONE, None):
        unthought = report.entropy(track(7, 7), markers, opened=False, tokens=False)
        assert (unthought.thinking, unthought.pear) == (None, None)
        assert unthought.answer is not None


def test_text_before_the_thinking_is_part_of_the_answer() -> None:
    watched = track(9, 1, 7, 2, 9, entropies=[1.0, 9.0, 2.0, 9.0, 0.5])
    seen = report.entropy(watched, ONE, opened=False, tokens=False)
    assert seen.answer is not None
    assert (seen.answer.tokens, seen.answer.mean) == (2, 0.75)


@pytest.mark.parametrize(
    ("token_ids", "unmet"),
    [([7, 2, 9, 5], True), ([7, 2, 9, 9], None), ([7, 2, 9, 9, 5], None), ([7, 7], None)],
)
def test_an_answer_that_is_too_short_is_reported(token_ids: list[int], unmet: bool | None) -> None:
    governing = Governing(min_answer=2)
    applied = report.applied(track(*token_ids), ONE, governing, opened=True, stops={5})
    assert applied.min_answer_unmet is unmet


def test_a_tool_call_closes_the_thinking() -> None:
    markers = ONE.model_copy(update={"implicit": (4,), "implicit_text": ("<call>",)})
    watched = track(7, 7, 4, 9, entropies=[1.0, 3.0, 0.5, 0.25])
    applied = report.applied(watched, markers, Governing(), opened=True)
    assert (applied.tokens, applied.closed_at) == (2, 2)
    seen = report.entropy(watched, markers, opened=True, tokens=False)
    assert seen.answer is not None
    assert (seen.answer.tokens, seen.pear) == (2, 1.625)


def test_every_token_is_listed_on_request() -> None:
    watched = Track([1, 2], [packed(0.25, logprob=-math.inf), packed(0.5), packed(0.75)])
    seen = report.entropy(watched, ONE, opened=False, tokens=True)
    assert seen.tokens == ((1, -9999.0, 0.25), (2, -1.0, 0.5))
    assert json.loads(json.dumps(seen.model_dump(mode="json"), allow_nan=False))


def test_entropies_of_the_processed_distribution() -> None:
    forced = packed(4.0, -4.0, processed_entropy=0.75, forced=1)
    drawn = packed(4.0, -4.0, processed_entropy=0.25, processed_logprob=-0.5)
    watched = Track([1, 7, 2, 9], [drawn, drawn, forced, drawn])
    seen = report.entropy(watched, ONE, opened=False, tokens=True, of="processed")
    assert seen.thinking is not None
    assert seen.answer is not None
    assert (seen.thinking.mean, seen.answer.mean, seen.pear) == (0.25, 0.25, 0)
    assert seen.tokens is not None
    listed = json.loads(json.dumps(seen.model_dump(mode="json"), allow_nan=False))["tokens"]
    assert listed == [[1, -0.5, 0.25], [7, -0.5, 0.25], [2, None, 0.75], [9, -0.5, 0.25]]
    raw = report.entropy(watched, ONE, opened=False, tokens=True)
    assert raw.tokens == tuple((token, -4.0, 4.0) for token in (1, 7, 2, 9))

    live = LiveTrack(ONE, opened=True, listed=True, of="processed")
    said = live.advance([7], [drawn])
    assert (said.entropy, said.tokens) == (0.25, ((7, -0.5, 0.25),))


def test_live_values_follow_the_phases() -> None:
    live = LiveTrack(TWO, opened=False, index=3, listed=True)
    assert live.advance([8], [packed(4.0)]).model_dump() == {
        "index": 3,
        "phase": "answer",
        "entropy": 4.0,
        "tokens": ((8, -1.0, 4.0),),
    }
    assert live.advance([1, 5], [packed(4.0)] * 2).phase == "thinking"
    assert live.advance([7, 2], [packed(1.0), packed(2.0)]).entropy == 1.5
    closed = live.advance([5], [packed(0.1)])
    assert (closed.phase, closed.entropy) == ("answer", 4.0)
    assert live.advance([9, 2, 5], [packed(0.3)] * 3).entropy == pytest.approx(4.9 / 4)
    assert live.tokens == 9


@pytest.mark.parametrize("markers", [None, ONE, TWO])
@given(
    tokens=st.lists(st.integers(1, 6), max_size=24),
    opened=st.booleans(),
    called=st.booleans(),
    cuts=st.lists(st.integers(0, 24), max_size=4),
)
def test_the_last_live_value_is_the_receipts(
    markers: Markers | None, tokens: list[int], opened: bool, called: bool, cuts: list[int]
) -> None:
    if markers is not None and called:
        markers = markers.model_copy(update={"implicit": (6, 4), "implicit_text": ("a", "b")})
    watched = track(*tokens, entropies=[0.1 * index for index in range(len(tokens))] or [0.0])
    live = LiveTrack(markers, opened)
    edges = sorted({0, len(tokens), *(cut for cut in cuts if cut < len(tokens))})
    for begin, end in itertools.pairwise(edges):
        last = live.advance(watched.token_ids[begin:end], watched.values[begin:end])
    if not tokens:
        return
    phases = report.phase_entropies(watched, markers, opened=opened)
    entropies = phases[last.phase]
    assert last.entropy == pytest.approx(np.mean(entropies) if len(entropies) else 0.0, abs=1e-6)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_null(odd: float) -> None:
    def strict(text: str) -> object:
        return json.loads(text, parse_constant=pytest.fail)

    odd_values = [packed(odd, logprob=odd), packed(0.5)]
    closed = Track([7, 8, 2], [*odd_values, packed(0.5)])
    seen = report.entropy(closed, ONE, opened=True, tokens=True)
    assert seen.thinking is not None
    assert (seen.thinking.mean, seen.pear) == (None, None)
    assert seen.tokens is not None
    assert seen.tokens[0] == (7, -9999.0 if odd == -math.inf else None, None)
    live = LiveTrack(ONE, opened=True, listed=True).advance([7, 8], odd_values)
    assert live.entropy is None
    for part in (seen, live):
        # Alike in a stream, which writes a dump, and in an answer, which is written at once.
        dumped = json.dumps(part.model_dump(mode="json", exclude_none=True))
        assert strict(dumped) == strict(part.model_dump_json(exclude_none=True))
