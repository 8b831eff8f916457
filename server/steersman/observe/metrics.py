"""Prometheus metrics of controlled requests, on `/metrics` beside vLLM's own."""

import functools
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from steersman.controls.registry import CONTROLS
from steersman.ledger import Ledger
from steersman.plan import Plan
from steersman.steering.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)


class Metrics:
    """The collectors, all labelled by `method`: the search method, or `plain`.

    Args:
        registry: Where to register; the one that `/metrics` serves.
        desk: Rows and edits in use; None on a server without steering.

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
        self._limited = Counter(
            "steersman_limited",
            "Requests refused because their key is over a limit, by limit and name of the key.",
            ["limit", "key"],
            registry=registry,
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
            "Tokens by kind: sampled (all), returned, cancelled (of aborted branches), or lost (of "
            "branches that finished and are not returned, and of forks).",
            ["method", "kind"],
            registry=registry,
        )
        self._reward_calls = Counter(
            "steersman_reward_calls",
            "Responses given to rewards, each once for every reward.",
            ["method"],
            registry=registry,
        )
        self._reward_tokens = Counter(
            "steersman_reward_tokens",
            "Tokens of these responses, as far as the rewards saw them.",
            ["method"],
            registry=registry,
        )
        self._seconds = Histogram(
            "steersman_request_seconds",
            "Duration of controlled requests.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._countings = [(control.part, control.counting(registry)) for control in CONTROLS]
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

    def limited(self, limit: str, key: str) -> None:
        """Count a request that is over a limit of its key."""
        self._child(self._limited, limit, key).inc()

    def closed(self, plan: Plan, ledger: Ledger, outcome: str) -> None:
        """Count a request that has ended, from its books."""
        method, branches, compute = plan.method, ledger.branches, ledger.compute()
        self._child(self._requests, method, outcome).inc()
        self._child(self._seconds, method).observe(ledger.seconds)
        self._child(self._faults, method).inc(any(one.failed for one in branches))
        unfinished = [one for one in branches if not one.finished]
        self._add(self._branches, method, "launched", len(branches))
        self._add(self._branches, method, "finished", len(branches) - len(unfinished))
        self._add(self._branches, method, "cancelled", len(unfinished))
        returned, cancelled = compute.returned_tokens, compute.cancelled_tokens
        if outcome != "ok":  # one that broke off has branches that were not aborted: cancelled too
            returned, cancelled = 0, sum(one.sampled_tokens for one in unfinished)
        self._add(self._tokens, method, "sampled", compute.sampled_tokens)
        self._add(self._tokens, method, "returned", returned)
        self._add(self._tokens, method, "cancelled", cancelled)
        self._add(self._tokens, method, "lost", compute.sampled_tokens - returned - cancelled)
        if compute.reward_calls:
            self._child(self._reward_calls, method).inc(compute.reward_calls)
            self._child(self._reward_tokens, method).inc(compute.reward_tokens)
        for kind, counting in self._countings:
            if (part := plan.part(kind)) is not None:
                counting.count(part, ledger)

    def _add(self, counter: Counter, first: str, second: str, count: int) -> None:
        child = self._child(counter, first, second)
        if count:  # to add nothing takes as long
            child.inc(count)


def _labelled(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)
