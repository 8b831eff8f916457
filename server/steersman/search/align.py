"""Alignment by MCMC (QAlign, Faria and Smith, arXiv 2504.03790), and power sampling (Karan and Du,
arXiv 2510.14901).

Chains of whole responses, each a step from the one before, whose stationary distribution is the
target; the response is selected among their states.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.needs import Need
from steersman.request import Request
from steersman.reward.error import RewardError
from steersman.search.chain import Chain, effective, most_ahead
from steersman.search.policy import Policy, Search
from steersman.search.select import select
from steersman.search.target import Power, Rewarded, Target
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.together import one_error
from steersman.trajectory.trajectory import OutputT, Trajectory
from steersman_client import Align, RewardTerm
from steersman_client import Target as Spec


class AlignPolicy(Policy[Align]):
    """Walk chains towards a target, and select one of their states."""

    spec = Align
    width = "chains"
    needs = frozenset({Need.FORKS, Need.EXACT})
    reward_field = "target.reward"
    makes_steps = True

    def needs_of(self, spec: Align) -> frozenset[Need]:
        if spec.target.power is None:
            return self.needs | {Need.SAMPLING}
        # A power has temperatures of its own, so that the request's may be 0 by default.
        return self.needs | {Need.RAW, Need.PROCESSED}

    def rewards(self, spec: Align) -> Sequence[RewardTerm]:
        return spec.target.reward or ()

    def branches(self, spec: Align) -> int:
        return spec.chains * min(spec.steps, spec.look_ahead or most_ahead(spec.chains))

    def check(self, spec: Align, request: Request, capabilities: Capabilities) -> None:
        _check_target(spec.target)
        if spec.burn_in >= spec.steps:
            raise ControlError(
                f"burn_in ({spec.burn_in}) must be below steps ({spec.steps})",
                param="control.search.burn_in",
            )
        if request.choices > 1:
            raise ControlError("align returns one response, so n must be 1", param="n")
        if spec.target.power is not None and request.temperature not in (None, 1):
            raise ControlError(
                "a power has temperatures of its own, so temperature must be 1 or left out",
                param="temperature",
            )

    async def run(self, spec: Align, search: Search[OutputT]) -> Outcome[OutputT]:
        target: Target[OutputT]
        if spec.target.power is None:
            target = Rewarded(search, spec.target.beta)
        else:
            target = Power(spec.target.power)
        chains = [
            Chain(search, target, number, spec.steps, spec.look_ahead, most_ahead(spec.chains))
            for number in range(spec.chains)
        ]
        with one_error():
            async with asyncio.TaskGroup() as group:
                walks = [group.create_task(_walk(chain, spec)) for chain in chains]
        errors = tuple(error for walk in walks if (error := walk.result()) is not None)
        states = [state for chain in chains for state in chain.states[spec.burn_in :]]
        if not states:  # stopped in the burn-in
            states = [state for chain in chains for state in chain.states[-1:]]
        applied = {
            **_counts(chains),
            "defaults_set_aside": search.truncations,
            "reward_errors": errors or None,
        }
        if not states:  # or before that
            firsts = tuple(chain.first for chain in chains if chain.first)
            return Outcome(firsts[:1], "fallback", applied)
        chosen, how = select(states, spec.select, search.reading, target.value)
        applied |= _targets(target, chains, chosen)
        applied["effective_samples"] = effective([*Counter(states).values()])
        if spec.return_chain:
            told = {(step.chain, step.step): step for step in search.steps}
            applied["chain"] = tuple(
                {**told[chain.number, number].model_dump(), "text": made.state.text}
                for chain in chains
                for number, made in enumerate(chain.made)
            )
        return Outcome((chosen,), how, applied)


def _check_target(target: Spec) -> None:
    if (target.power is None) == (target.reward is None):
        raise ControlError(
            "a target is of a power or of a reward: give one of the two",
            param="control.search.target",
        )
    if target.power is not None and "beta" in target.model_fields_set:
        raise ControlError(
            "beta belongs to a reward, and the target is of a power",
            param="control.search.target.beta",
        )
    if target.power == 1:
        raise ControlError(
            "power 1 is plain sampling: leave the search out",
            param="control.search.target.power",
        )


async def _walk(chain: Chain[OutputT], spec: Align) -> str | None:
    """Run a chain; the fault of a reward that ended it, if that is no error.

    Raises:
        RewardError: A reward failed.

    """
    try:
        await chain.run()
    except RewardError as error:
        if spec.on_reward_error == "fail":
            raise
        return str(error)
    return None


def _counts(chains: Sequence[Chain[OutputT]]) -> dict[str, Any]:
    """Fields of the receipt that count steps."""
    steps = [step for chain in chains for step in chain.made]
    accepted = sum(step.accepted for step in steps)
    return {
        "steps": len(steps),
        "acceptance": accepted / len(steps) if steps else None,
        "acceptance_by_chain": tuple(chain.acceptance for chain in chains),
        "reused_tokens": sum(step.cut for step in steps),
        "resampled_tokens": sum(step.tokens for step in steps),
    }


def _targets(
    target: Target[OutputT], chains: Sequence[Chain[OutputT]], chosen: Trajectory[OutputT]
) -> dict[str, Any]:
    """Fields of the receipt that show the target's value along the chains."""
    begun = [chain.states for chain in chains if chain.states]
    return {
        "target_start": _mean([target.value(states[0]) for states in begun]),
        "target_end": _mean([target.value(states[-1]) for states in begun]),
        "target_chosen": target.value(chosen),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
