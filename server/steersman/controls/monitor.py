"""The control `monitor`: entropies by phase and token, in receipts and streams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry

from steersman.controls.control import LABELS, Control, Counting, Labels, Part, Planning
from steersman.ledger import Ledger
from steersman.thinking import report
from steersman.thinking.entropies import TokenEntropies
from steersman.thinking.report import Of
from steersman.trajectory.phases import Markers


@dataclass(frozen=True, slots=True)
class MonitorPart(Part):
    """A monitored response.

    Attributes:
        tokens: Whether every token is listed.
        markers: The model's thinking markers; None for a model without a thinking phase.
        of: Distribution that is measured.

    """

    tokens: bool
    markers: Markers | None
    of: Of = "raw"
    reads_tokens = True

    def wire(self, origin: int) -> Mapping[str, Any]:
        return {"processed": True} if self.of == "processed" else {"measured": True}

    def reported(self, ledger: Ledger) -> Mapping[str, Any]:
        entropies = tuple(
            report.entropy(
                trajectory.track,
                self.markers,
                opened=generation.reading.opened,
                tokens=self.tokens,
                of=self.of,
            )
            for generation, trajectory in ledger.returned
            if trajectory.track is not None
        )
        return {
            "entropy": entropies[0] if entropies else None,
            "entropy_by_choice": entropies if len(entropies) > 1 else None,
        }


class MonitorControl(Control):
    """The entropy monitor."""

    fields = ("monitor",)
    part = MonitorPart
    how_to_start: ClassVar[Mapping[str, str]] = {"monitor": "it was started with --no-steering"}

    def plan(self, planning: Planning) -> MonitorPart | None:
        if planning.spec.monitor is None:
            return None
        monitor = planning.spec.monitor
        return MonitorPart(monitor.tokens, planning.capabilities.thinking_tokens, monitor.of)

    def counting(self, registry: CollectorRegistry) -> Counting:
        return _Counting(registry)


class _Counting(Counting):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._entropies = TokenEntropies(registry, LABELS)

    def count(self, part: MonitorPart, ledger: Ledger, labels: Labels) -> None:
        if part.of != "raw":
            return  # it would mix two distributions in one histogram
        for generation, trajectory in ledger.returned:
            if trajectory.track is None:
                continue
            phases = report.phase_entropies(
                trajectory.track, part.markers, opened=generation.reading.opened
            )
            for phase, entropies in phases.items():
                self._entropies.observe((phase, *labels), entropies)
