"""The controls `steer` and `thinkedit`: what is added to the residual stream, and by which edit."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry, Counter

from steersman.controls.control import Control, Counting, Labels, Part, Planning
from steersman.controls.thinking import ThinkingPart
from steersman.ledger import Ledger
from steersman.steering import plan
from steersman.steering.configuration import Term
from steersman.steering.desk import Desk
from steersman.steering.plan import Steering
from steersman.thinking.law import digest
from steersman_kernels.layout import CLASSES


@dataclass(frozen=True, slots=True)
class SteeringPart(Part):
    """A steered response.

    Attributes:
        steering: Its terms, its edit, and the configuration of the engine that they make.

    """

    steering: Steering
    reads_tokens = True

    @contextlib.asynccontextmanager
    async def held(self, desk: Desk, within: float | None = None) -> AsyncGenerator[None]:
        async with desk.taken(self.steering, within):
            yield

    def wire(self, origin: int) -> Mapping[str, Any]:
        return {"steering": self.steering.configuration.message(origin)}

    def bare(self) -> bool:
        return True

    def applied(self, ledger: Ledger) -> Mapping[str, Any]:
        counts, edit = steered_tokens(ledger), self.steering.edit

        def tokens(term: Term) -> int:
            return sum(count for kind, count in counts.items() if term.applies(*kind))

        return {
            "steer": tuple(one.applied(tokens(one.term)) for one in self.steering.terms),
            "thinkedit": edit.applied(edited_tokens(ledger)) if edit else None,
        }


def steered_tokens(ledger: Ledger) -> dict[tuple[str, bool], int]:
    """Steered tokens of the returned choices, by class of token."""
    counted = [trajectory.steered for _, trajectory in ledger.returned if trajectory.steered]
    return {kind: sum(counts[index] for counts in counted) for index, kind in enumerate(CLASSES)}


def edited_tokens(ledger: Ledger) -> int:
    """Tokens of the returned choices, and their prompts, that went through the request's edit."""
    counted = [trajectory.steered for _, trajectory in ledger.returned if trajectory.steered]
    return sum(counts[len(CLASSES)] for counts in counted)


class SteeringControl(Control):
    """Steering vectors and edits of requests."""

    fields = ("steer", "thinkedit")
    part = SteeringPart
    how_to_start: ClassVar[Mapping[str, str]] = {
        "thinkedit": "start it with --edits or --edit-rows"
    }

    def plan(self, planning: Planning) -> SteeringPart | None:
        thinking = planning.part(ThinkingPart)
        law = thinking.governing.law if thinking else None
        steering = plan.plan(
            planning.spec.steer,
            planning.vectors,
            planning.capabilities,
            planning.spec.thinkedit,
            planning.edits,
            thinking.balance if thinking else None,
            digest(law) if law else None,
        )
        return None if steering is None else SteeringPart(steering)

    def counting(self, registry: CollectorRegistry) -> Counting:
        return _Counting(registry)


class _Counting(Counting):
    def __init__(self, registry: CollectorRegistry) -> None:
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

    def count(self, part: SteeringPart, ledger: Ledger, labels: Labels) -> None:
        for (segment, boundary), count in steered_tokens(ledger).items():
            if count:
                self._steered.labels(segment, str(boundary).lower()).inc(count)
        self._edited.inc(edited_tokens(ledger))
