"""A histogram of token entropies that takes a whole response at once."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Upper bounds of the buckets, in nats."""


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
        registry.register(self)

    def observe(self, phase: str, entropies: NDArray[np.float64]) -> None:
        """Count the entropies, in nats, of the tokens of a phase."""
        buckets = np.searchsorted(BOUNDS, entropies)  # a bound is in its own bucket
        self._counts[phase] += np.bincount(buckets, minlength=len(BOUNDS) + 1)
        self._sums[phase] += float(entropies.sum())

    def collect(self) -> Iterable[Metric]:
        """The histogram as it stands."""
        family = HistogramMetricFamily(
            "steersman_token_entropy_nats",
            "Entropy of the distribution that each returned token of monitored requests came from, "
            "by phase: thinking or answer.",
            labels=["phase"],
        )
        for phase, counts in self._counts.items():
            bounds = (*(str(bound) for bound in BOUNDS), "+Inf")
            buckets = list(zip(bounds, counts.cumsum().tolist(), strict=True))
            family.add_metric([phase], buckets, self._sums[phase])
        yield family
