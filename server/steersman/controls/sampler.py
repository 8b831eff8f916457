"""The control `sampler`: how each trajectory is sampled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel

from steersman.controls import needs
from steersman.controls.control import (
    LABELS,
    Arrived,
    Children,
    Control,
    Counting,
    Labels,
    Part,
    Planning,
)
from steersman.ledger import Ledger
from steersman.needs import Need
from steersman.plugins import method_of
from steersman.sampling.registry import samplers
from steersman.sampling.sampler import Sampler
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source
from steersman_client import AppliedSampler


@dataclass(frozen=True, slots=True)
class SamplerPart(Part):
    """A sampler for each trajectory.

    Attributes:
        sampler: Its method.
        spec: The fields of the method.

    """

    sampler: Sampler[Any]
    spec: BaseModel

    @property
    def reads_tokens(self) -> bool:
        return self.forks()

    def check_arrival(self, arrived: Arrived) -> None:
        needs.check_arrived(self.sampler.needs, method_of(self.sampler), arrived)

    def forks(self) -> bool:
        return Need.FORKS in self.sampler.needs

    def wire(self, origin: int) -> Mapping[str, Any]:
        return needs.wire(self.sampler.needs)

    def wrap(self, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        return self.sampler.wrap(self.spec, source, reading)

    def outcome(self, ledger: Ledger) -> AppliedSampler:
        """Outcome of the sampler, over all branches."""
        records = [one.sampling for one in ledger.branches if one.sampling is not None]
        own = self.sampler.applied(self.spec, records)
        return AppliedSampler(method=method_of(self.sampler), **own)

    def applied(self, ledger: Ledger) -> Mapping[str, Any]:
        return {"sampler": self.outcome(ledger)}


class SamplerControl(Control):
    """The samplers."""

    fields = ("sampler",)
    part = SamplerPart
    always = True

    def plan(self, planning: Planning) -> SamplerPart | None:
        spec: Any = planning.spec.sampler
        if spec is None:
            return None
        sampler = samplers()[spec.method]
        sampler.check(spec, planning.request, planning.capabilities)
        needs.check(sampler.needs, spec.method, "sampler", planning)
        return SamplerPart(sampler, spec)

    def counting(self, registry: CollectorRegistry) -> Counting:
        return _Counting(registry)


class _Counting(Counting):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._child = Children().of

        def counter(name: str, of: str) -> Counter:
            # The method is the sampler's here.
            return Counter(f"steersman_sampler_{name}", of, LABELS, registry=registry)

        self._counters = {
            "branch_points": counter("branch_points", "Tokens at which a sampler drew trials."),
            "trials": counter("trials", "Trials of a sampler, the first ones included."),
            "lost_tokens": counter(
                "lost_tokens", "Tokens that a sampler's trials drew and that are in no branch."
            ),
            "degraded": counter(
                "degraded", "Branch points at which the engine refused a sampler's trials."
            ),
        }

    def count(self, part: SamplerPart, ledger: Ledger, labels: Labels) -> None:
        outcome, (_, profile) = part.outcome(ledger), labels
        for name, counter in self._counters.items():
            self._child(counter, outcome.method, profile).inc(getattr(outcome, name) or 0)
