"""A histogram of token entropies that takes a whole response at once."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Upper bounds of the buckets, in nats."""
_MOST_WAITING = 2**14
"""Entropies. To put them into buckets takes long for a few, and hardly longer for many."""


class TokenEntropies(Collector):
    """`steersman_token_entropy_nats`, by phase.

    The client library's own histogram takes one value a call, which the event loop would feel at
    the end of a long response.

    Args:
        registry: Where to register.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # By phase: values in each bucket, the last one without an upper bound; and their sum.
        self._counts = {
            phase: np.zeros(len(BOUNDS) + 1, np.int64) for phase in ("thinking", "answer")
        }
        self._sums = dict.fromkeys(self._counts, 0.0)
        self._waiting: list[tuple[str, NDArray[np.float64]]] = []
        self._tokens_waiting = 0
        registry.register(self)

    def observe(self, phase: str, entropies: NDArray[np.float64]) -> None:
        """Count the entropies, in nats, of the tokens of a phase."""
        self._waiting.append((phase, entropies))
        self._tokens_waiting += len(entropies)
        if self._tokens_waiting > _MOST_WAITING:
            self._count()

    def _count(self) -> None:
        for phase, counts in self._counts.items():
            waiting = [entropies for name, entropies in self._waiting if name == phase]
            values = np.concatenate([np.empty(0), *waiting])
            buckets = np.searchsorted(BOUNDS, values)  # a bound is in its own bucket
            counts += np.bincount(buckets, minlength=len(BOUNDS) + 1)
            self._sums[phase] += float(values.sum())
        self._waiting.clear()
        self._tokens_waiting = 0

    def collect(self) -> Iterable[Metric]:
        """The histogram as it stands."""
        self._count()
        family = HistogramMetricFamily(
            "steersman_token_entropy_nats",
            "Entropy of the model's distribution at each returned token of monitored requests, "
            "by phase: thinking or answer.",
            labels=["phase"],
        )
        for phase, counts in self._counts.items():
            bounds = (*(str(bound) for bound in BOUNDS), "+Inf")
            buckets = list(zip(bounds, counts.cumsum().tolist(), strict=True))
            family.add_metric([phase], buckets, self._sums[phase])
        yield family
