"""The control `search`: which of several trajectories of a prompt is the answer."""

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
from steersman.controls.thinking import ThinkingPart
from steersman.errors import ControlError
from steersman.ledger import Ledger
from steersman.needs import Need
from steersman.plugins import method_of
from steersman.reward.rewards import Asked
from steersman.search.policy import Policy
from steersman.search.registry import policies
from steersman_client import AppliedSearch


@dataclass(frozen=True, slots=True)
class SearchPart(Part):
    """A search for each prompt.

    Attributes:
        policy: Its method.
        spec: The fields of the method.
        asked: The rewards that it judges by; None without any.

    """

    policy: Policy[Any]
    spec: BaseModel
    asked: Asked | None = None

    @property
    def method(self) -> str:
        return method_of(self.policy)

    @property
    def needs(self) -> frozenset[Need]:
        """Needs of the policy and of its rewards: one branch alone need not differ from any
        other, unless others follow it."""
        needs = self.policy.needs_of(self.spec)
        if self.branches(1) == 1 and Need.FORKS not in needs:
            needs -= {Need.SAMPLING}
        return needs | ({Need.RAW} if self.asked is not None and self.asked.needs else set())

    def check_arrival(self, arrived: Arrived) -> None:
        needs.check_arrived(self.needs, self.method, arrived)

    def branches(self, choices: int) -> int:
        return self.policy.branches(self.spec)

    @property
    def branches_field(self) -> str:
        return f"control.search.{self.policy.width}"

    def forks(self) -> bool:
        return Need.FORKS in self.needs

    @property
    def reads_tokens(self) -> bool:
        return self.forks()

    def wire(self, origin: int) -> Mapping[str, Any]:
        return needs.wire(self.needs)

    def applied(self, ledger: Ledger) -> Mapping[str, Any]:
        outcomes = [one.outcome for one in ledger.generations if one.outcome is not None]
        winners = tuple(winner.branch for outcome in outcomes for winner in outcome.winners)
        # With several prompts the receipt names the weakest way in which one was decided.
        decided = [outcome.decided_by for outcome in outcomes]
        weakest = "fallback" if "fallback" in decided else next(iter(decided), None)
        limits = {generation.branch_max_tokens for generation in ledger.generations}
        return {
            "search": AppliedSearch(
                method=self.method,
                launched=len(ledger.branches),
                finished=ledger.finished,
                cancelled=ledger.cancelled,
                winner=winners[0] if winners else None,
                winners=winners,
                decided_by=weakest,
                branch_max_tokens=limits.pop() if len(limits) == 1 else None,
                **(outcomes[0].applied if len(outcomes) == 1 else {}),
            )
        }


class SearchControl(Control):
    """The searches."""

    fields = ("search",)
    part = SearchPart
    always = True

    def plan(self, planning: Planning) -> SearchPart | None:
        spec: Any = planning.spec.search
        if spec is None:
            return None
        policy = policies()[spec.method]
        branches = policy.branches(spec)
        request = planning.request
        policy.check(spec, request, planning.capabilities)
        _check_budget(getattr(spec, "min_thinking", 0), planning)
        if request.choices > branches:
            raise ControlError(
                f"n asks for {request.choices} choices of {branches} branches", param="n"
            )
        terms, field = policy.rewards(spec), f"control.search.{policy.reward_field}"
        asked = planning.rewards.asked(terms, field) if terms else None
        part = SearchPart(policy, spec, asked)
        needs.check(part.needs, part.method, "search", planning)
        return part

    def counting(self, registry: CollectorRegistry) -> Counting:
        return _Counting(registry)


class _Counting(Counting):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._child = Children().of
        self._steps = Counter(
            "steersman_search_steps",
            "Steps of the chains of a search, by result: accepted or rejected.",
            [*LABELS, "result"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "steersman_search_fallbacks",
            "Prompts for which no branch met the conditions of the search, so that the best of the "
            "others was returned.",
            LABELS,
            registry=registry,
        )

    def count(self, part: SearchPart, ledger: Ledger, labels: Labels) -> None:
        steps = [step for generation in ledger.generations for step in generation.steps]
        if steps:
            accepted = sum(step.accepted for step in steps)
            self._child(self._steps, *labels, "accepted").inc(accepted)
            self._child(self._steps, *labels, "rejected").inc(len(steps) - accepted)
        outcomes = [one.outcome for one in ledger.generations if one.outcome is not None]
        fallbacks = sum(outcome.decided_by == "fallback" for outcome in outcomes)
        self._child(self._fallbacks, *labels).inc(fallbacks)


def _check_budget(min_thinking: int, planning: Planning) -> None:
    """Refuse a least length of the thinking that its budget rules out."""
    thinking = planning.part(ThinkingPart)
    if thinking is None or thinking.governing.budget is None:
        return
    most = thinking.governing.budget + thinking.governing.grace
    if min_thinking > most:
        raise ControlError(
            f"min_thinking ({min_thinking}) is above the {most} tokens of "
            "control.thinking's budget and grace: no branch could win",
            param="control.search.min_thinking",
        )
