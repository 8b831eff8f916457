"""Prometheus metrics of controlled requests, on `/metrics` beside vLLM's own."""

from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from steersman.capabilities import Digests
from steersman.controls.control import LABELS, Children, Labels
from steersman.controls.registry import CONTROLS
from steersman.digests import KINDS, number
from steersman.following import Follower
from steersman.ledger import Ledger
from steersman.plan import Plan
from steersman.reward.rewards import Rewards
from steersman.steering.desk import Desk

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
_FIRST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_WAIT_SECONDS = (0.01, 0.025, 0.1, 0.25, 1, 2.5, 5, 10, 25, 60)


class Metrics:
    """The collectors. Those of requests are labelled by method and profile.

    Args:
        registry: Where to register; the one that `/metrics` serves.
        desk: Rows and edits in use; None on a server without steering.
        rewards: The server's rewards.
        digests: Of what the server has loaded.
        follower: Follows the server's files.

    """

    def __init__(
        self,
        registry: CollectorRegistry,
        desk: Desk | None = None,
        rewards: Rewards | None = None,
        digests: Callable[[], Digests] | None = None,
        follower: Follower | None = None,
    ) -> None:
        self._child = Children().of
        self._register_outcomes(registry)
        self._register_compute(registry)
        self._register_times(registry)
        self._countings = [(control.part, control.counting(registry)) for control in CONTROLS]
        proven = Gauge(
            "steersman_self_test_passed",
            "1 if every rank passed the self-test of steering at the start, without which a server "
            "does not start; 0 on a server without steering, where there is none.",
            registry=registry,
        )
        proven.set(desk is not None)
        if desk is not None:
            _watch(desk, registry)
        if rewards is not None:
            rewards.count_in(registry)
        if digests is not None and follower is not None:
            _compare(digests, follower, registry)

    def _register_outcomes(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "steersman_requests",
            "Controlled requests by outcome: ok, refused (vLLM has answered with a 4xx, or with "
            "the 503 of a full queue or of a server that ends), error or disconnected.",
            [*LABELS, "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "steersman_refused", "Requests refused before anything ran.", registry=registry
        )
        self._unauthorized = Counter(
            "steersman_unauthorized",
            "Requests without a key that opens what they ask for, by HTTP status (401 or 403).",
            ["status"],
            registry=registry,
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
            LABELS,
            registry=registry,
        )

    def _register_compute(self, registry: CollectorRegistry) -> None:
        self._branches = Counter(
            "steersman_branches",
            "Branches by event: launched, finished (to their own end) or cancelled.",
            [*LABELS, "event"],
            registry=registry,
        )
        self._tokens = Counter(
            "steersman_tokens",
            "Tokens by kind: sampled (all), returned, cancelled (of aborted branches), or lost (of "
            "branches that finished and are not returned, and of forks).",
            [*LABELS, "kind"],
            registry=registry,
        )
        self._sequential = Counter(
            "steersman_sequential_tokens",
            "Tokens of the longest chain of each request in which each waited for the one before.",
            LABELS,
            registry=registry,
        )
        self._reward_calls = Counter(
            "steersman_reward_calls",
            "Responses given to rewards, each once for every reward.",
            LABELS,
            registry=registry,
        )
        self._reward_tokens = Counter(
            "steersman_reward_tokens",
            "Tokens of these responses, as far as the rewards saw them.",
            LABELS,
            registry=registry,
        )

    def _register_times(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, meaning, LABELS, buckets=buckets, registry=registry)

        self._seconds = histogram(
            "steersman_request_seconds", "Duration of controlled requests.", _SECONDS
        )
        self._first_token = histogram(
            "steersman_first_token_seconds",
            "Time to the first token of streamed controlled requests.",
            _FIRST_SECONDS,
        )
        self._first_answer = histogram(
            "steersman_first_answer_token_seconds",
            "Time to the first token after the thinking, of streamed controlled requests.",
            _FIRST_SECONDS,
        )

    def refused(self) -> None:
        """Count a request that was answered with an error before anything ran."""
        self._refused.inc()

    def limited(self, limit: str, key: str) -> None:
        """Count a request that is over a limit of its key."""
        self._child(self._limited, limit, key).inc()

    def unauthorized(self, status: int) -> None:
        """Count a request whose key does not open what it asks for."""
        self._child(self._unauthorized, str(status)).inc()

    def closed(self, plan: Plan, ledger: Ledger, outcome: str) -> None:
        """Count a request that has ended, from its books."""
        labels, branches = plan.labels, ledger.branches
        compute = ledger.spent(answered=outcome == "ok")
        self._child(self._requests, *labels, outcome).inc()
        self._child(self._faults, *labels).inc(any(one.failed for one in branches))
        unfinished = [one for one in branches if not one.finished]
        self._add(self._branches, labels, "launched", len(branches))
        self._add(self._branches, labels, "finished", len(branches) - len(unfinished))
        self._add(self._branches, labels, "cancelled", len(unfinished))
        self._add(self._tokens, labels, "sampled", compute.sampled_tokens)
        self._add(self._tokens, labels, "returned", compute.returned_tokens)
        self._add(self._tokens, labels, "cancelled", compute.cancelled_tokens)
        self._add(self._tokens, labels, "lost", compute.lost_tokens)
        self._child(self._sequential, *labels).inc(compute.sequential_tokens)
        if compute.reward_calls:
            self._child(self._reward_calls, *labels).inc(compute.reward_calls)
            self._child(self._reward_tokens, *labels).inc(compute.reward_tokens)
        self._time(labels, ledger)
        for kind, counting in self._countings:
            if (part := plan.part(kind)) is not None:
                counting.count(part, ledger, labels)

    def _time(self, labels: Labels, ledger: Ledger) -> None:
        for histogram, seconds in (
            (self._seconds, ledger.seconds),
            (self._first_token, ledger.first_token_seconds),
            (self._first_answer, ledger.first_answer_seconds),
        ):
            if seconds is not None:
                self._child(histogram, *labels).observe(seconds)

    def _add(self, counter: Counter, labels: Labels, last: str, count: int) -> None:
        child = self._child(counter, *labels, last)
        if count:  # to add nothing takes as long
            child.inc(count)


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
    waits = Histogram(
        "steersman_steering_wait_seconds",
        "Wait of requests for which no row was free at once, by end: admitted, refused (429), or "
        "left by the client.",
        ["end"],
        buckets=_WAIT_SECONDS,
        registry=registry,
    )
    desk.admission.tell(lambda seconds, end: waits.labels(end).observe(seconds))


def _compare(
    digests: Callable[[], Digests], follower: Follower, registry: CollectorRegistry
) -> None:
    digest = Gauge(
        "steersman_digest",
        "Digest of what the server has loaded, as a number, by kind: replicas that differ have "
        "other vectors, edits, live_edits or profiles.",
        ["kind"],
        registry=registry,
    )
    unusable = Gauge(
        "steersman_unusable_files",
        "Files that are followed and cannot be used, by kind; the log has each with the reason.",
        ["kind"],
        registry=registry,
    )
    age = Gauge(
        "steersman_follow_age_seconds",
        "Time since all files that are followed were last looked at; 0 if none are.",
        registry=registry,
    )
    age.set_function(follower.age)

    def digest_of(kind: str) -> float:
        return number(getattr(digests(), kind))

    for kind in KINDS:
        digest.labels(kind).set_function(partial(digest_of, kind))
        unusable.labels(kind).set_function(partial(follower.faults, kind))
