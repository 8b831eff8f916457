"""The metrics of governed and monitored requests."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from steersman.controls.control import Part
from steersman.controls.monitor import MonitorPart
from steersman.controls.thinking import ThinkingPart
from steersman.ledger import Ledger
from steersman.observe.metrics import Metrics
from steersman.plan import Plan
from steersman.request import Endpoint, Request
from steersman.thinking.governing import Governing
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import ABORTED, Prefix, Start, Trajectory
from tests.unit.servers import MARKERS
from tests.unit.tracks import packed


def books() -> Ledger:
    """A search whose second branch won, and a turn in which nothing was sampled."""
    ledger = Ledger()
    values = [
        packed(0.5),
        packed(9.0),
        packed(1.0, closed_by=2, forced=1),
        packed(0.01, closed_by=2),
    ]
    search, turn = ledger.open(Reading(MARKERS, opened=True)), ledger.open()
    for branch in range(2):
        search.branches.append(Trajectory(Start(branch), track=Track([7, 8, 2, 9], values)))
    search.outcome = Outcome((search.branches[1],), "first")
    turn.branches.append(Trajectory(Start(0), track=Track()))
    return ledger


GOVERNED = ThinkingPart(Governing(budget=2), MARKERS)
MONITORED = MonitorPart(tokens=False, markers=MARKERS)


def plan(*parts: Part) -> Plan:
    return Plan(Request(Endpoint.CHAT), 1000, None, parts)


def test_what_closed_the_thinking_of_returned_choices() -> None:
    registry = CollectorRegistry()
    Metrics(registry).closed(plan(GOVERNED), books(), "ok")

    def closed(by: str) -> float | None:
        return registry.get_sample_value("steersman_thinking_closed_total", {"closed_by": by})

    assert closed("budget") == closed("none") == 1
    assert registry.get_sample_value("steersman_thinking_tokens_total") == 2
    assert registry.get_sample_value("steersman_forced_tokens_total") == 1


def test_entropies_by_phase() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for _ in range(2):
        metrics.closed(plan(MONITORED), books(), "ok")

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"steersman_token_entropy_nats_{name}", labels)

    assert sample("count", phase="thinking") == 4
    assert sample("sum", phase="thinking") == 19.0
    assert sample("bucket", phase="thinking", le="0.2") == 0
    assert sample("bucket", phase="thinking", le="0.5") == 2
    assert sample("bucket", phase="thinking", le="8.0") == 2
    assert sample("bucket", phase="thinking", le="+Inf") == 4
    assert sample("bucket", phase="answer", le="0.01") == 2


def test_entropies_of_another_distribution_are_not_counted() -> None:
    registry = CollectorRegistry()
    of_processed = MonitorPart(tokens=False, markers=MARKERS, of="processed")
    Metrics(registry).closed(plan(of_processed), books(), "ok")
    assert registry.get_sample_value("steersman_token_entropy_nats_count", {"phase": "answer"}) == 0


def test_a_request_that_asked_for_neither_is_not_counted() -> None:
    registry = CollectorRegistry()
    Metrics(registry).closed(plan(), books(), "ok")
    assert registry.get_sample_value("steersman_thinking_tokens_total") == 0
    assert registry.get_sample_value("steersman_token_entropy_nats_count", {"phase": "answer"}) == 0


def run(tokens: int, end: str | None, prefix: Prefix[Any] | None = None) -> Trajectory[Any]:
    """A trajectory with tokens of its own, beside those that it began after."""
    trajectory: Trajectory[Any] = Trajectory(Start(0, prefix=prefix))
    trajectory.advance(trajectory.start.begun + tokens, end)
    return trajectory


def tokens(*branches: Trajectory[Any], winner: int, outcome: str = "ok") -> dict[str, int]:
    """The tokens that are counted of a search, by kind."""
    ledger, registry = Ledger(), CollectorRegistry()
    search = ledger.open()
    search.branches.extend(branches)
    search.started.extend(branches)
    search.outcome = Outcome((branches[winner],), "first")
    Metrics(registry).closed(plan(), ledger, outcome)

    def counted(kind: str) -> int:
        labels = {"method": "plain", "kind": kind}
        return int(registry.get_sample_value("steersman_tokens_total", labels) or 0)

    return {kind: counted(kind) for kind in ("sampled", "returned", "cancelled", "lost")}


def test_tokens_of_a_returned_branch_that_a_limit_cut_off_are_returned() -> None:
    """Counted as cancelled too they would leave less than none to the lost ones."""
    cut = run(5, ABORTED)
    assert tokens(cut, run(3, "stop"), run(2, ABORTED), winner=0) == {
        "sampled": 10,
        "returned": 5,
        "cancelled": 2,
        "lost": 3,
    }
    assert tokens(cut, winner=0) == {"sampled": 5, "returned": 5, "cancelled": 0, "lost": 0}


def test_tokens_of_an_aborted_branch_that_a_returned_one_goes_on_from_are_returned() -> None:
    cut = run(5, ABORTED)
    fork = run(4, "stop", Prefix(cut, 3))
    assert tokens(cut, fork, winner=1) == {"sampled": 9, "returned": 7, "cancelled": 2, "lost": 0}


@pytest.mark.parametrize("outcome", ["error", "disconnected"])
def test_of_a_request_that_broke_off_nothing_is_returned(outcome: str) -> None:
    found = tokens(run(5, None), run(3, "stop"), run(2, ABORTED), winner=1, outcome=outcome)
    assert found == {"sampled": 10, "returned": 0, "cancelled": 7, "lost": 3}
