"""Targets of chains: the distributions of responses that they walk towards."""

import math
from dataclasses import dataclass, field
from typing import Generic, Protocol

from steersman.search.policy import Search
from steersman.trajectory.trajectory import OutputT, Trajectory
from steersman_kernels.layout import T_LOGPROB, T_PROCESSED_LOGPROB


class Target(Protocol[OutputT]):
    """The distribution that a chain walks towards."""

    @property
    def temperature(self) -> float | None:
        """Temperature at which the responses are drawn; None for the request's."""
        ...

    async def weigh(self, state: Trajectory[OutputT]) -> bool:
        """Find out the value of a response that has ended; False if the search was stopped first.

        Raises:
            RewardError: It has none.

        """
        ...

    def value(self, state: Trajectory[OutputT]) -> float:
        """Value of a response that was weighed: the logarithm of its power, or its reward."""
        ...

    def log_ratio(
        self, state: Trajectory[OutputT], proposal: Trajectory[OutputT], cut: int
    ) -> float:
        """Delta without the lengths: log target(y') - log target(y) + log q(y) - log q(y').

        Args:
            state: y.
            proposal: y', which has the first tokens of y.
            cut: Their number.

        """
        ...


@dataclass(frozen=True, slots=True)
class Power(Generic[OutputT]):
    """The target p(y)^alpha, with p the model at temperature 1 and the proposals drawn at
    temperature 1 / alpha ([power sampling](https://arxiv.org/abs/2510.14901), section 4).

    Attributes:
        alpha: The exponent.

    """

    alpha: float

    @property
    def temperature(self) -> float:
        return 1 / self.alpha

    async def weigh(self, state: Trajectory[OutputT]) -> bool:
        return True

    def value(self, state: Trajectory[OutputT]) -> float:
        return self.alpha * self._logprobs(state, 0)[0]

    def log_ratio(
        self, state: Trajectory[OutputT], proposal: Trajectory[OutputT], cut: int
    ) -> float:
        (raw, drawn), (new_raw, new_drawn) = (self._logprobs(one, cut) for one in (state, proposal))
        return self.alpha * (new_raw - raw) + drawn - new_drawn

    @staticmethod
    def _logprobs(state: Trajectory[OutputT], begin: int) -> tuple[float, float]:
        """Log-probabilities of the tokens from one on: by the model, and as they were drawn."""
        assert state.track is not None
        table = state.track.table()[begin : len(state.token_ids)]
        return float(table[:, T_LOGPROB].sum()), float(table[:, T_PROCESSED_LOGPROB].sum())


@dataclass(slots=True)
class Rewarded(Generic[OutputT]):
    """The target p(y) exp(r(y) / beta), with p the distribution that the responses are drawn from
    and r their reward ([QAlign](https://arxiv.org/abs/2504.03790), section 3). As the proposals are
    of p too, its probabilities cancel out.

    Attributes:
        search: Scores the responses.
        beta: The smaller, the more the reward counts.

    """

    search: Search[OutputT]
    beta: float
    _rewards: dict[Trajectory[OutputT], float] = field(default_factory=dict)

    @property
    def temperature(self) -> None:
        return None

    async def weigh(self, state: Trajectory[OutputT]) -> bool:
        scores = await self.search.scores([state])
        if scores is not None:
            (self._rewards[state],) = scores
        return scores is not None

    def value(self, state: Trajectory[OutputT]) -> float:
        return self._rewards[state]

    def log_ratio(
        self, state: Trajectory[OutputT], proposal: Trajectory[OutputT], cut: int
    ) -> float:
        return (self.value(proposal) - self.value(state)) / self.beta


def delta(
    target: Target[OutputT], state: Trajectory[OutputT], proposal: Trajectory[OutputT], cut: int
) -> float:
    """Logarithm of the acceptance ratio of a step."""
    lengths = math.log(state.tokens) - math.log(proposal.tokens)
    return target.log_ratio(state, proposal, cut) + lengths
