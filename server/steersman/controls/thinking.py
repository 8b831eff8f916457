"""The control `thinking`: limits of the thinking phase."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry, Counter

from steersman.controls.control import (
    LABELS,
    Arrived,
    Children,
    Control,
    Counting,
    Labels,
    Part,
    Planning,
    UnplannedError,
)
from steersman.errors import ControlError
from steersman.ledger import Ledger
from steersman.request import Request
from steersman.sampling.certainty import Certainty
from steersman.steering.plan import PlannedTerm
from steersman.thinking import plan, report
from steersman.thinking.governing import Governing
from steersman.trajectory.phases import Markers
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source
from steersman_client import AppliedThinking

MOST_STOPS = 48
"""Stop tokens of a request's own that the governor can know beside the model's."""


@dataclass(frozen=True, slots=True)
class ThinkingPart(Part):
    """A governed thinking phase.

    Attributes:
        governing: Instructions to the governor.
        markers: The model's thinking markers.
        balance: The vector whose strength it moves; None without one.

    """

    governing: Governing
    markers: Markers
    balance: PlannedTerm | None = None
    reads_tokens = True

    def check_arrival(self, arrived: Arrived) -> None:
        if "thinking_token_budget" in arrived.changes:
            raise UnplannedError(
                "thinking_token_budget", "it is vLLM's own budget, beside control.thinking"
            )
        if arrived.grammar_in_thinking:
            raise UnplannedError("control.thinking", "a grammar binds the thinking too")

    def wire(self, origin: int) -> Mapping[str, Any]:
        return {"thinking": self.governing.message(), "measured": self.governing.needs_entropy}

    def wrap(self, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        probing = self.governing.probing
        return source if probing is None else Certainty(probing).wrap(source, reading)

    def applied(self, ledger: Ledger) -> Mapping[str, Any]:
        thinking = self.outcomes(ledger)
        return {
            "thinking": thinking[0] if thinking else None,
            "thinking_by_choice": thinking if len(thinking) > 1 else None,
        }

    def outcomes(self, ledger: Ledger) -> tuple[AppliedThinking, ...]:
        """Outcome of the thinking phase of each returned choice."""
        return tuple(
            report.applied(
                trajectory.track,
                self.markers,
                self.governing,
                opened=generation.reading.opened,
                stops=generation.stops,
                balance=self.balance,
                steered=trajectory.steered,
                probes=len(trajectory.forks),
            )
            for generation, trajectory in ledger.returned
            if trajectory.track is not None
        )


class ThinkingControl(Control):
    """The governor."""

    fields = ("thinking",)
    part = ThinkingPart
    how_to_start: ClassVar[Mapping[str, str]] = {"thinking": "it was started with --no-steering"}

    def plan(self, planning: Planning) -> ThinkingPart | None:
        if planning.spec.thinking is None:
            return None
        self._check(planning)
        governing, balance = plan.plan(
            planning.spec.thinking, planning.capabilities, planning.encode, planning.vectors
        )
        markers = planning.capabilities.thinking_tokens
        assert markers is not None  # or nothing could be governed
        _check_allowed(governing, markers, planning.request)
        return ThinkingPart(governing, markers, balance)

    def counting(self, registry: CollectorRegistry) -> Counting:
        return _Counting(registry)

    def _check(self, planning: Planning) -> None:
        request = planning.request
        if "thinking_token_budget" in request.changes:
            raise ControlError(
                "thinking_token_budget is vLLM's own budget: leave it out, or control.thinking",
                param="thinking_token_budget",
            )
        if request.grammar is not None:
            budget = planning.spec.thinking and planning.spec.thinking.budget
            _check_grammar(request, budget is not None, planning.capabilities.grammar_in_thinking)
        if request.stop_token_ids > MOST_STOPS:
            raise ControlError(
                f"{request.stop_token_ids} tokens end this response: beside control.thinking it "
                f"may be up to {MOST_STOPS}",
                param="stop_token_ids",
            )


def _check_grammar(request: Request, budget: bool, in_thinking: bool) -> None:
    if in_thinking:
        raise ControlError(
            f"{request.grammar} is a grammar, which binds the thinking too on this server "
            "(enable_in_reasoning), so that nothing can close it: leave out control.thinking "
            f"or {request.grammar}",
            param=f"control.thinking{'.budget' if budget else ''}",
        )
    if not request.include_reasoning:
        raise ControlError(
            f"{request.grammar} is a grammar, which without include_reasoning binds the "
            "response from its first token on, so that nothing can close the thinking: leave "
            f"out control.thinking, {request.grammar} or include_reasoning",
            param="include_reasoning",
        )


def _check_allowed(governing: Governing, markers: Markers, request: Request) -> None:
    if request.allowed_token_ids is None:
        return
    for name, tokens in (("the end marker", markers.end), ("the nudge", governing.nudge)):
        if missing := sorted({*tokens} - request.allowed_token_ids):
            raise ControlError(
                f"control.thinking may put {name} into the response, whose tokens {missing} "
                "are not allowed: add them, or leave out control.thinking or allowed_token_ids",
                param="allowed_token_ids",
            )


class _Counting(Counting):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._child = Children().of
        self._closed = Counter(
            "steersman_thinking_closed",
            "Returned choices of governed requests by what closed their thinking: model, budget, "
            "entropy, loop, length, certainty, or none if nothing did.",
            [*LABELS, "closed_by"],
            registry=registry,
        )
        self._tokens = Counter(
            "steersman_thinking_tokens",
            "Thinking tokens in returned choices of governed requests.",
            LABELS,
            registry=registry,
        )
        self._forced = Counter(
            "steersman_forced_tokens",
            "Tokens in returned choices of governed requests that were put there and not drawn.",
            LABELS,
            registry=registry,
        )
        self._probes = Counter(
            "steersman_probes",
            "Forks that were asked for their answer while a trajectory was thinking.",
            LABELS,
            registry=registry,
        )

    def count(self, part: ThinkingPart, ledger: Ledger, labels: Labels) -> None:
        outcomes = part.outcomes(ledger)
        for thinking in outcomes:
            self._child(self._closed, *labels, thinking.closed_by or "none").inc()
        self._child(self._tokens, *labels).inc(sum(one.tokens for one in outcomes))
        self._child(self._forced, *labels).inc(sum(one.forced_tokens for one in outcomes))
        if part.governing.probing is not None:
            self._child(self._probes, *labels).inc(sum(len(one.forks) for one in ledger.branches))
