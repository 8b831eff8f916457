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
from typing import Generic

from steersman.reward.error import RewardError
from steersman.search.policy import Search
from steersman.search.target import Target, delta
from steersman.trajectory.seeds import derived
from steersman.trajectory.together import Running
from steersman.trajectory.trajectory import OutputT, Prefix, Start, Trajectory
from steersman_client import ChainStep

_MOST_AHEAD = 4


def most_ahead(chains: int) -> int:
    """Steps of a chain that are drawn at once at most, unless a request says otherwise: chains that
    run side by side fill the engine's steps already.

    Args:
        chains: Number of chains of the prompt.

    """
    return max(1, _MOST_AHEAD // chains)


@dataclass(slots=True)
class Made(Generic[OutputT]):
    """A step that a chain has made.

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
        most: Steps that are drawn at once at most, following the acceptance.
        first: The first state, once it is there.
        made: The steps so far.

    """

    search: Search[OutputT]
    target: Target[OutputT]
    number: int
    steps: int
    ahead: int | None = None
    most: int = _MOST_AHEAD
    first: Trajectory[OutputT] | None = None
    made: list[Made[OutputT]] = field(default_factory=list)
    _random: str = ""
    _begun: bool = False
    _after: int = 0  # tokens sampled one after another so far

    async def run(self) -> None:
        """Run it to its last step, or until its responses are stopped.

        Raises:
            RewardError: A response has no score. What was reached before stands.
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
            self._begun = self.first.finished and await self.target.weigh(self.first)
            seed = self.first.seed
            self._random = f"{Random().getrandbits(64) if seed is None else seed} {self.number}"
            self._after, going_on = self.first.sequential_tokens, self._begun
            while going_on and len(self.made) < self.steps:
                proposals = self._propose(running)
                going_on = await self._judge_all(proposals, running)
                await self._drop(running)
            await running.all_ended()
        except RewardError:
            await self._drop(running)
            await running.all_ended()
            raise
        finally:
            await running.close()

    @property
    def states(self) -> list[Trajectory[OutputT]]:
        """The first state and that after each step, repeated where a step was rejected."""
        if self.first is None or not self._begun:
            return []
        return [self.first, *(step.state for step in self.made)]

    @property
    def acceptance(self) -> float | None:
        """Share of the steps that were accepted; None before the first."""
        if not self.made:
            return None
        return sum(step.accepted for step in self.made) / len(self.made)

    @property
    def state(self) -> Trajectory[OutputT]:
        """The last state, of a chain that has begun."""
        if self.made:
            return self.made[-1].state
        assert self.first is not None
        return self.first

    def _propose(self, running: Running[OutputT]) -> Sequence[Trajectory[OutputT]]:
        """Start the proposals of the next steps, all of them from the state as it is."""
        state, first = self.state, len(self.made)
        steps = range(first, first + min(self._ahead(), self.steps - first))
        cuts = [int(self._draw(step)[0] * state.tokens) for step in steps]
        proposals = self.search.start(
            self._start(state, cut, step) for cut, step in zip(cuts, steps, strict=True)
        )
        for proposal in proposals:
            running.add(proposal)
        return proposals

    async def _judge_all(
        self, proposals: Sequence[Trajectory[OutputT]], running: Running[OutputT]
    ) -> bool:
        """Make the steps of proposals, up to the first that is accepted; False if the search was
        stopped first."""
        for proposal in proposals:
            await running.ended(proposal)
            if not proposal.finished or not await self.target.weigh(proposal):
                return False
            self._after = max(self._after, proposal.sequential_tokens)
            if self._judge(proposal):
                return True
        return True

    async def _drop(self, running: Running[OutputT]) -> None:
        """Abort the proposals that still run."""
        await self.search.source.stop([one for one in running.trajectories if one.running])

    def _judge(self, proposal: Trajectory[OutputT]) -> bool:
        """Make the step of a proposal, and tell of it; True if it is accepted."""
        state, step, cut = self.state, len(self.made), proposal.start.begun
        uniform = self._draw(step)[1]
        ratio = delta(self.target, state, proposal, cut)
        accepted = math.log(uniform) < ratio if uniform else True
        after = proposal if accepted else state
        self.made.append(Made(after, accepted, cut, proposal.sampled_tokens))
        self.search.steps.append(self._told(step))
        return accepted

    def _told(self, step: int) -> ChainStep:
        """The last step, as events tell of it."""
        made = self.made[-1]
        return ChainStep(
            chain=self.number,
            step=step,
            accepted=made.accepted,
            target=self.target.value(made.state),
            tokens=made.state.tokens,
            acceptance=self.acceptance or 0.0,
        )

    def _draw(self, step: int) -> tuple[float, float]:
        """Two uniform numbers of a step: where it is cut, and for the acceptance."""
        random = Random(f"{self._random} {step}")
        return random.random(), random.random()

    def _start(self, state: Trajectory[OutputT], cut: int, step: int) -> Start[OutputT]:
        return Start(
            self.number,
            prefix=Prefix(state, cut),
            seed=derived(self.first.seed if self.first else None, self.number, step),
            temperature=self.target.temperature,
            whole=True,
            after=self._after,
        )

    def _ahead(self) -> int:
        """Steps to draw at once: as many as are judged, on average, up to an acceptance."""
        if self.ahead is not None:
            return self.ahead
        accepted = sum(step.accepted for step in self.made)
        return min(self.most, round((len(self.made) + 2) / (accepted + 1)))


def effective(counts: Sequence[int]) -> float:
    """Effective number of samples of states that stand so often in a chain: (sum n)^2 / sum n^2."""
    return sum(counts) ** 2 / sum(count**2 for count in counts) if counts else 0.0
