"""Alignment by MCMC (QAlign, Faria and Smith, arXiv 2504.03790), and power sampling (Karan and Du,
arXiv 2510.14901).

Chains of whole responses, each a step from the one before, whose stationary distribution is the
target; the response is selected among their states.
"""

import asyncio
from collections import Counter
from typing import Any

from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.needs import Need
from steersman.request import Request
from steersman.search.chain import MOST_AHEAD, Chain, Power, effective
from steersman.search.policy import Policy, Search
from steersman.search.select import select
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.together import one_error
from steersman.trajectory.trajectory import OutputT, Trajectory
from steersman_client import Align


class AlignPolicy(Policy[Align]):
    """Walk chains towards a target, and select one of their states."""

    spec = Align
    width = "chains"
    # Its trajectories have temperatures of their own, so that the request's may be 0 by default.
    needs = frozenset({Need.FORKS, Need.RAW, Need.PROCESSED, Need.EXACT})

    def branches(self, spec: Align) -> int:
        return spec.chains * min(spec.steps, spec.look_ahead or MOST_AHEAD)

    def check(self, spec: Align, request: Request, capabilities: Capabilities) -> None:
        if spec.target.power == 1:
            raise ControlError(
                "power 1 is plain sampling: leave the search out",
                param="control.search.target.power",
            )
        if spec.burn_in >= spec.steps:
            raise ControlError(
                f"burn_in ({spec.burn_in}) must be below steps ({spec.steps})",
                param="control.search.burn_in",
            )
        if request.choices > 1:
            raise ControlError("align returns one response, so n must be 1", param="n")
        if request.temperature not in (None, 1):
            raise ControlError(
                "the target has a temperature of its own, so temperature must be 1 or left out",
                param="temperature",
            )

    async def run(self, spec: Align, search: Search[OutputT]) -> Outcome[OutputT]:
        target = Power(spec.target.power)
        chains = [
            Chain(search, target, number, spec.steps, spec.look_ahead)
            for number in range(spec.chains)
        ]
        with one_error():
            async with asyncio.TaskGroup() as group:
                for chain in chains:
                    group.create_task(chain.run())
        states = [state for chain in chains for state in chain.states[spec.burn_in :]]
        if not states:  # stopped in the burn-in
            states = [state for chain in chains for state in chain.states[-1:]]
        if not states:  # or before that
            return Outcome(tuple(chain.first for chain in chains if chain.first)[:1], "fallback")
        chosen, how = select(states, spec.select, search.reading, target.value)
        applied = _applied(spec, target, chains, states, chosen)
        return Outcome((chosen,), how, {**applied, "defaults_set_aside": search.truncations})


def _applied(
    spec: Align,
    target: Power,
    chains: list[Chain[OutputT]],
    states: list[Trajectory[OutputT]],
    chosen: Trajectory[OutputT],
) -> dict[str, Any]:
    steps = [step for chain in chains for step in chain.made]
    accepted = sum(step.accepted for step in steps)
    begun = [chain for chain in chains if chain.states]
    applied: dict[str, Any] = {
        "steps": len(steps),
        "acceptance": accepted / len(steps) if steps else None,
        "acceptance_by_chain": tuple(chain.acceptance for chain in chains),
        "target_start": _mean([target.value(chain.states[0]) for chain in begun]),
        "target_end": _mean([target.value(chain.states[-1]) for chain in begun]),
        "target_chosen": target.value(chosen),
        "effective_samples": effective([*Counter(states).values()]),
        "reused_tokens": sum(step.cut for step in steps),
        "resampled_tokens": sum(step.tokens for step in steps),
    }
    if spec.return_chain:
        applied["chain"] = tuple(
            {"chain": chain.number, "accepted": step.accepted, "text": step.state.text}
            for chain in chains
            for step in chain.made
        )
    return applied


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
