"""A Markov chain over whole responses (Metropolis-Hastings), whose stationary distribution is a
target.

A step cuts the state y at a token, drawn uniformly from all of its tokens, and draws the rest anew:
the proposal y'. It is accepted with probability min(1, exp(delta)),

    delta = log target(y') - log target(y) + log q(y | cut) - log q(y' | cut) + log |y| - log |y'|,

with q the distribution that the rest is drawn from, and |y| the number of tokens, the one that ends
the response included ([QAlign](https://arxiv.org/abs/2504.03790), algorithm 1). A rejected step
leaves the state as it was, and counts it once more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, Protocol

from steersman.search.policy import Search
from steersman.trajectory.seeds import derived
from steersman.trajectory.together import Running
from steersman.trajectory.trajectory import OutputT, Prefix, Start, Trajectory
from steersman_kernels.layout import T_LOGPROB, T_PROCESSED_LOGPROB

MOST_AHEAD = 4
"""Steps that are drawn at once at most, unless a request says otherwise."""


class Target(Protocol):
    """The distribution that a chain walks towards."""

    @property
    def temperature(self) -> float:
        """Temperature at which the responses are drawn."""
        ...

    def value(self, state: Trajectory[OutputT]) -> float:
        """Logarithm of the target of a response, up to a constant; of a reward, the reward."""
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
class Power:
    """The target p(y)^alpha, with p the model at temperature 1 and the proposals drawn at
    temperature 1 / alpha ([power sampling](https://arxiv.org/abs/2510.14901), section 4).

    Attributes:
        alpha: The exponent.

    """

    alpha: float

    @property
    def temperature(self) -> float:
        return 1 / self.alpha

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


def delta(
    target: Target, state: Trajectory[OutputT], proposal: Trajectory[OutputT], cut: int
) -> float:
    """Logarithm of the acceptance ratio of a step."""
    lengths = math.log(state.tokens) - math.log(proposal.tokens)
    return target.log_ratio(state, proposal, cut) + lengths


@dataclass(slots=True)
class Step(Generic[OutputT]):
    """One step of a chain.

    Attributes:
        state: The state after it.
        accepted: Whether that is the step's own proposal.
        cut: Tokens of the state before that the proposal kept.
        tokens: Tokens that were drawn for the proposal.

    """

    state: Trajectory[OutputT]
    accepted: bool
    cut: int
    tokens: int


@dataclass(slots=True)
class Chain(Generic[OutputT]):
    """One chain, as it runs.

    Where it is cut, by which seed the rest is drawn, and which proposals are accepted are functions
    of the chain's seed, its number and the step. So steps can be drawn ahead: all proposals of a
    state are drawn at once and judged in the order of their steps, whatever ends first, and those
    after an accepted one are thrown away.

    Attributes:
        search: Where its responses are drawn.
        target: Its stationary distribution.
        number: Its number.
        steps: Steps that it makes.
        ahead: Steps that are drawn at once; None to follow the acceptance.
        first: The first state, once it is there.
        made: The steps so far.

    """

    search: Search[OutputT]
    target: Target
    number: int
    steps: int
    ahead: int | None = None
    first: Trajectory[OutputT] | None = None
    made: list[Step[OutputT]] = field(default_factory=list)
    _random: str = ""

    async def run(self) -> None:
        """Run it to its last step, or until its responses are stopped.

        Raises:
            Exception: An error of the engine.

        """
        running: Running[OutputT] = Running()
        try:
            start: Start[OutputT] = Start(
                self.number, temperature=self.target.temperature, whole=True
            )
            (self.first,) = self.search.start([start])
            running.add(self.first)
            await running.ended(self.first)
            state, after = self.first, self.first.sequential_tokens
            seed = self.first.seed
            self._random = f"{Random().getrandbits(64) if seed is None else seed} {self.number}"
            while self.first.finished and len(self.made) < self.steps:
                count = min(self._ahead(), self.steps - len(self.made))
                cuts = [self._draw(len(self.made) + j)[0] for j in range(count)]
                starts = [
                    self._start(state, int(cut * state.tokens), len(self.made) + j, after)
                    for j, cut in enumerate(cuts)
                ]
                proposals = self.search.start(starts)
                for proposal in proposals:
                    running.add(proposal)
                accepted = None
                for proposal in proposals:
                    await running.ended(proposal)
                    if not proposal.finished:
                        return
                    after = max(after, proposal.sequential_tokens)
                    accepted = self._judge(state, proposal)
                    if accepted:
                        state = proposal
                        break
                await self.search.source.stop([one for one in proposals if one.running])
        finally:
            await running.close()

    @property
    def states(self) -> list[Trajectory[OutputT]]:
        """The first state and that after each step, repeated where a step was rejected."""
        if self.first is None or not self.first.finished:
            return []
        return [self.first, *(step.state for step in self.made)]

    @property
    def acceptance(self) -> float | None:
        """Share of the steps that were accepted; None before the first."""
        if not self.made:
            return None
        return sum(step.accepted for step in self.made) / len(self.made)

    def _judge(self, state: Trajectory[OutputT], proposal: Trajectory[OutputT]) -> bool:
        cut = proposal.start.begun
        uniform = self._draw(len(self.made))[1]
        ratio = delta(self.target, state, proposal, cut)
        accepted = math.log(uniform) < ratio if uniform else True
        after = proposal if accepted else state
        self.made.append(Step(after, accepted, cut, proposal.sampled_tokens))
        return accepted

    def _draw(self, step: int) -> tuple[float, float]:
        """Two uniform numbers of a step: where it is cut, and for the acceptance."""
        random = Random(f"{self._random} {step}")
        return random.random(), random.random()

    def _start(self, state: Trajectory[OutputT], cut: int, step: int, after: int) -> Start[OutputT]:
        return Start(
            self.number,
            prefix=Prefix(state, cut),
            seed=derived(self.first.seed if self.first else None, self.number, step),
            temperature=self.target.temperature,
            whole=True,
            after=after,
        )

    def _ahead(self) -> int:
        """Steps to draw at once: as many as are judged, on average, up to an acceptance."""
        if self.ahead is not None:
            return self.ahead
        accepted = sum(step.accepted for step in self.made)
        return min(MOST_AHEAD, round((len(self.made) + 2) / (accepted + 1)))


def effective(counts: Sequence[int]) -> float:
    """Effective number of samples of states that stand so often in a chain: (sum n)^2 / sum n^2."""
    return sum(counts) ** 2 / sum(count**2 for count in counts) if counts else 0.0
