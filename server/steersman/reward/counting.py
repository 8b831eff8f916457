"""Metrics of the rewards of a server, by their names."""

from collections.abc import Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10, 25, 100)

Fault = Literal["failed", "timeout"]


class RewardCounting:
    """Times and faults of batches.

    Args:
        registry: Where to register.
        names: The rewards.

    """

    def __init__(self, registry: CollectorRegistry, names: Iterable[str]) -> None:
        self._seconds = Histogram(
            "steersman_reward_seconds",
            "Duration of a batch of responses at a reward, whatever it ended in.",
            ["reward"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._errors = Counter(
            "steersman_reward_errors",
            "Batches for which a reward gave no usable scores: it failed, or took too long "
            "(timeout). One of several requests is tried again, each request by itself.",
            ["reward", "fault"],
            registry=registry,
        )
        for name in names:  # so that a first error is seen as a growth
            self._seconds.labels(name)
            self._errors.labels(name, "failed")
            self._errors.labels(name, "timeout")

    def ended(self, name: str, seconds: float) -> None:
        """Count a batch."""
        self._seconds.labels(name).observe(seconds)

    def failed(self, name: str, fault: Fault) -> None:
        """Count a batch without scores."""
        self._errors.labels(name, fault).inc()
