"""Prometheus metrics of controlled requests, on `/metrics` beside vLLM's own."""

import functools
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from steersman.ledger import Ledger
from steersman.observe.entropies import TokenEntropies
from steersman.plan import Plan
from steersman.steering.desk import Desk
from steersman.thinking.report import phase_entropies

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)


class Metrics:
    """The collectors, all labelled by `method`: the search method, or `plain`.

    Args:
        registry: Where to register; the one that `/metrics` serves.
        desk: What steering has in use; None on a server without steering.

    """

    def __init__(self, registry: CollectorRegistry, desk: Desk | None = None) -> None:
        # `labels` looks a child up under a lock, and a request counts a dozen.
        self._child = functools.cache(_labelled)
        self._requests = Counter(
            "steersman_requests",
            "Controlled requests by outcome: ok, error or disconnected.",
            ["method", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "steersman_refused", "Requests refused before anything ran.", registry=registry
        )
        self._faults = Counter(
            "steersman_faults",
            "Controlled requests that the engine ended because of a fault: they could not be taken "
            "in on a rank, or their logits were no numbers.",
            ["method"],
            registry=registry,
        )
        self._branches = Counter(
            "steersman_branches",
            "Branches by event: launched, finished (to their own end) or cancelled.",
            ["method", "event"],
            registry=registry,
        )
        self._tokens = Counter(
            "steersman_tokens",
            "Tokens by kind: sampled (all), returned, or cancelled (of aborted branches).",
            ["method", "kind"],
            registry=registry,
        )
        self._seconds = Histogram(
            "steersman_request_seconds",
            "Duration of controlled requests.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._steered = Counter(
            "steersman_steered_tokens",
            "Tokens steered in returned choices, counted in the engine, by segment of the response "
            "and by whether they end a line or a sentence.",
            ["segment", "boundary"],
            registry=registry,
        )
        self._edited = Counter(
            "steersman_edited_tokens",
            "Tokens of returned choices and their prompts that went through the edit that their "
            "request chose, counted in the engine.",
            registry=registry,
        )
        self._entropies = TokenEntropies(registry)
        self._thinking = Counter(
            "steersman_thinking_closed",
            "Returned choices of governed requests by what closed their thinking: model, budget, "
            "entropy, loop, length, certainty, or none if nothing did.",
            ["closed_by"],
            registry=registry,
        )
        self._thinking_tokens = Counter(
            "steersman_thinking_tokens",
            "Thinking tokens in returned choices of governed requests.",
            registry=registry,
        )
        self._forced = Counter(
            "steersman_forced_tokens",
            "Tokens in returned choices of governed requests that were put there and not drawn.",
            registry=registry,
        )
        self._probes = Counter(
            "steersman_probes",
            "Forks that were asked for their answer while a line was thinking.",
            registry=registry,
        )
        if desk is not None:
            self._watch(desk, registry)

    @staticmethod
    def _watch(desk: Desk, registry: CollectorRegistry) -> None:
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "steersman_steering_rows": (
                "Distinct sums of steering vectors that can be in use.",
                lambda: desk.admission.rows,
            ),
            "steersman_steering_rows_in_use": (
                "Distinct sums of steering vectors in use.",
                lambda: desk.admission.rows_in_use,
            ),
            "steersman_steering_waiting": (
                "Requests that wait for a row.",
                lambda: desk.admission.waiting,
            ),
            "steersman_vectors": (
                "Steering vectors that requests can name.",
                lambda: len(desk.store.names),
            ),
            "steersman_edits_live": (
                "Edits that the model's weights have.",
                lambda: len(desk.live.entries),
            ),
            "steersman_edits_offered": (
                "Edits that requests can choose.",
                lambda: len(desk.edits.names) if desk.edits is not None else 0,
            ),
        }
        for name, (meaning, read) in gauges.items():
            Gauge(name, meaning, registry=registry).set_function(read)

    def refused(self) -> None:
        """Count a request that was answered with an error before anything ran."""
        self._refused.inc()

    def closed(self, method: str, ledger: Ledger, outcome: str) -> None:
        """Count a request that has ended, from its books."""
        self._child(self._requests, method, outcome).inc()
        self._child(self._seconds, method).observe(ledger.seconds)
        lines, compute = ledger.lines, ledger.compute()
        self._child(self._faults, method).inc(any(line.failed for line in lines))
        # A request that broke off has lines that nobody aborted; they are cancelled as well.
        cancelled = [line.tokens for line in lines if not line.finished]
        self._add(self._branches, method, "launched", len(lines))
        self._add(self._branches, method, "finished", len(lines) - len(cancelled))
        self._add(self._branches, method, "cancelled", len(cancelled))
        returned = compute.returned_tokens if outcome == "ok" else 0
        self._add(self._tokens, method, "sampled", compute.sampled_tokens)
        self._add(self._tokens, method, "returned", returned)
        self._add(self._tokens, method, "cancelled", sum(cancelled))
        if any(line.steered for line in lines):
            for (segment, boundary), count in ledger.steered.items():
                if count:
                    self._add(self._steered, segment, str(boundary).lower(), count)
            self._edited.inc(ledger.edited)

    def _add(self, counter: Counter, first: str, second: str, count: int) -> None:
        child = self._child(counter, first, second)
        if count:  # to add nothing takes as long
            child.inc(count)

    def watched(self, plan: Plan, ledger: Ledger) -> None:
        """Count what the governor did and the monitor saw in a request that has ended."""
        if plan.governing is not None and plan.markers is not None:
            for thinking in ledger.thinking(plan.governing, plan.markers, balance=None):
                self._child(self._thinking, thinking.closed_by or "none").inc()
                self._thinking_tokens.inc(thinking.tokens)
                self._forced.inc(thinking.forced_tokens)
        if probes := ledger.probes:
            self._probes.inc(len(probes))
        if plan.monitor is None:
            return
        for run in ledger.runs:
            for line in run.returned:
                if line.track is None:
                    continue
                phases = phase_entropies(line.track, plan.markers, opened=run.opened)
                for phase, entropies in phases.items():
                    self._entropies.observe(phase, entropies)


def _labelled(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)
