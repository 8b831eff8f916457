"""The metrics of governed and monitored requests."""

from prometheus_client import CollectorRegistry

from steersman.ledger import Ledger
from steersman.observe.metrics import Metrics
from steersman.plan import Plan
from steersman.search.first_finish import Outcome
from steersman.thinking.governing import Governing
from steersman.trajectory.track import Track
from steersman_client import Monitor
from steersman_kernels.layout import Value
from tests.unit.servers import MARKERS


def value(entropy: float, closed_by: int = 0, forced: int = 0) -> bytes:
    return Value(entropy, -1.0, 0.5, 0.0, closed_by, forced).packed()


def books() -> Ledger:
    """A search whose second line won, and a turn in which nothing was sampled."""
    ledger = Ledger()
    run = ledger.open(2, opened=True)
    values = [value(0.5), value(9.0), value(1.0, 2, 1), value(0.01, 2)]
    for line in run.lines:
        line.track = Track([7, 8, 2, 9], values)
    run.outcome = Outcome((run.lines[1],), "first")
    ledger.open(1).lines[0].track = Track()
    return ledger


def plan(governing: Governing | None = None, monitor: Monitor | None = None) -> Plan:
    return Plan(None, None, None, 1, 1000, governing, monitor, MARKERS)


def test_what_closed_the_thinking_of_returned_choices() -> None:
    registry = CollectorRegistry()
    Metrics(registry).watched(plan(Governing(budget=2)), books())

    def closed(by: str) -> float | None:
        return registry.get_sample_value("steersman_thinking_closed_total", {"closed_by": by})

    assert closed("budget") == closed("none") == 1
    assert registry.get_sample_value("steersman_thinking_tokens_total") == 2
    assert registry.get_sample_value("steersman_forced_tokens_total") == 1


def test_entropies_by_phase() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for _ in range(2):
        metrics.watched(plan(monitor=Monitor()), books())

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"steersman_token_entropy_nats_{name}", labels)

    assert sample("count", phase="thinking") == 4
    assert sample("sum", phase="thinking") == 19.0
    assert sample("bucket", phase="thinking", le="0.2") == 0
    assert sample("bucket", phase="thinking", le="0.5") == 2
    assert sample("bucket", phase="thinking", le="8.0") == 2
    assert sample("bucket", phase="thinking", le="+Inf") == 4
    assert sample("bucket", phase="answer", le="0.01") == 2


def test_a_request_that_asked_for_neither_is_not_counted() -> None:
    registry = CollectorRegistry()
    Metrics(registry).watched(plan(), books())
    assert registry.get_sample_value("steersman_thinking_tokens_total") == 0
    assert registry.get_sample_value("steersman_token_entropy_nats_count", {"phase": "answer"}) == 0
