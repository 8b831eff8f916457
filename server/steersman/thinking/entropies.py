"""A histogram of token entropies that takes a whole response at once."""

from collections.abc import Iterable, Sequence

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
    """`steersman_token_entropy_nats`, by phase, and by labels of requests.

    The client library's own histogram takes one value a call, which the event loop would feel at
    the end of a long response.

    Args:
        registry: Where to register.
        labels: Names of the labels beside `phase`.

    """

    def __init__(self, registry: CollectorRegistry, labels: Sequence[str]) -> None:
        self._labels = ("phase", *labels)
        # By labels: values in each bucket, the last one without an upper bound; and their sum.
        self._counts: dict[tuple[str, ...], NDArray[np.int64]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._waiting: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
        self._tokens_waiting = 0
        registry.register(self)

    def observe(self, labels: tuple[str, ...], entropies: NDArray[np.float64]) -> None:
        """Count the entropies, in nats, of some tokens.

        Args:
            labels: Their phase, and the other labels.
            entropies: One of each token.

        """
        self._waiting.setdefault(labels, []).append(entropies)
        self._tokens_waiting += len(entropies)
        if self._tokens_waiting > _MOST_WAITING:
            self._count()

    def _count(self) -> None:
        waiting, self._waiting, self._tokens_waiting = self._waiting, {}, 0
        for labels, entropies in waiting.items():
            values = np.concatenate(entropies)
            buckets = np.searchsorted(BOUNDS, values)  # a bound is in its own bucket
            counts = self._counts.setdefault(labels, np.zeros(len(BOUNDS) + 1, np.int64))
            counts += np.bincount(buckets, minlength=len(BOUNDS) + 1)
            self._sums[labels] = self._sums.get(labels, 0.0) + float(values.sum())

    def collect(self) -> Iterable[Metric]:
        """The histogram as it stands."""
        self._count()
        family = HistogramMetricFamily(
            "steersman_token_entropy_nats",
            "Entropy of the model's distribution at each returned token of monitored requests, "
            "by phase: thinking or answer.",
            labels=self._labels,
        )
        bounds = (*(str(bound) for bound in BOUNDS), "+Inf")
        for labels, counts in self._counts.items():
            buckets = list(zip(bounds, counts.cumsum().tolist(), strict=True))
            family.add_metric(labels, buckets, self._sums[labels])
        yield family
