"""Cautious Next Token Prediction (Wang et al., arXiv 2507.03038).

Where the distribution of the next token has a high entropy, several short trials are sampled, and
the response goes on from the one of the lowest perplexity.

The token that was drawn there is the first token of the first trial: its trajectory runs on while
the others are forks. Each trial runs on after its end, so that the winner never waits; of two that
have ended the worse is aborted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic

from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.needs import Need
from steersman.request import Request
from steersman.sampling.composed import CautiousRecord, Composed
from steersman.sampling.sampler import Record, Sampler
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source, Start, Trajectory
from steersman_client import Cautious


class CautiousSampler(Sampler[Cautious]):
    """Goes on by the likeliest of several trials wherever the model is unsure."""

    spec = Cautious
    needs = frozenset({Need.SAMPLING, Need.FORKS, Need.PROCESSED})

    def check(self, spec: Cautious, request: Request, capabilities: Capabilities) -> None:
        if spec.min_entropy >= spec.max_entropy:
            raise ControlError(
                f"min_entropy ({spec.min_entropy:g}) must be below max_entropy "
                f"({spec.max_entropy:g})",
                param="control.sampler.min_entropy",
            )

    def wrap(self, spec: Cautious, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        return CautiousSource(source, spec, reading)

    def applied(self, spec: Cautious, records: Sequence[Record]) -> Mapping[str, Any]:
        own = [one for one in records if isinstance(one, CautiousRecord)]

        def total(name: str) -> int:
            return sum(getattr(one, name) for one in own)

        def mean(name: str, count: str) -> float | None:
            of = total(count)
            return round(total(name) / of, 4) if of else None

        return {
            "branch_points": total("branch_points"),
            "trials": total("trial_count"),
            "lost_tokens": total("lost_tokens"),
            "winner_mean_tokens": mean("winner_tokens", "winners"),
            "loser_mean_tokens": mean("loser_tokens", "losers"),
            "mean_entropy": mean("entropies", "branch_points"),
            "degraded": total("degraded"),
        }


class CautiousSource(Generic[OutputT]):
    """Source whose trajectories are put together from the trials of others.

    Args:
        source: Where those are started.
        spec: Where to branch, and how often.
        reading: Where the phases of a response begin and end.

    """

    def __init__(self, source: Source[OutputT], spec: Cautious, reading: Reading) -> None:
        self._source = source
        self._spec = spec
        self._reading = reading
        self._composed: dict[Trajectory[OutputT], Composed[OutputT]] = {}

    def start_all(self, starts: Sequence[Start[OutputT]]) -> Sequence[Trajectory[OutputT]]:
        return [self._laid_over(first) for first in self._source.start_all(starts)]

    async def stop(self, trajectories: Sequence[Trajectory[OutputT]]) -> None:
        running = [one for one in trajectories if one.running]
        own = [one for one in running if one not in self._composed]
        for one in running:
            if one in self._composed:
                own.extend(self._composed[one].stop())
        await self._source.stop(own)

    async def close_thinking(self, trajectory: Trajectory[OutputT]) -> None:
        composed = self._composed.get(trajectory)
        await self._source.close_thinking(trajectory if composed is None else composed.current)

    def _laid_over(self, first: Trajectory[OutputT]) -> Trajectory[OutputT]:
        if first.start.bare:
            return first
        whole: Trajectory[OutputT] = Trajectory(first.start, excerpts=first.excerpts)
        composed = Composed(whole, first, self._source, self._spec, self._reading)
        self._composed[whole] = composed
        whole.sampling, whole.steps = composed.record, composed.steps()
        return whole
