"""Books of one HTTP request: its trajectories, and their cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from steersman.reward.judge import Judge
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Trajectory
from steersman_client import ChainStep, Compute, Leader


@dataclass(frozen=True, slots=True)
class Failure:
    """A fault that ended a request, as its client is told of it.

    Attributes:
        status: HTTP status.
        message: The fault.

    """

    status: int
    message: str


@dataclass(slots=True, eq=False)
class Generation:
    """One call of the engine within the request: one prompt, or one turn of a tool loop.

    Attributes:
        branches: The trajectories that its responses are chosen from.
        reading: Where the phases of a response begin and end.
        started: All trajectories that the engine ran, forks included.
        stops: Tokens each of which ends a response.
        outcome: The result of its search; None without a search, or before it.
        branch_max_tokens: Token limit of each branch.
        tokens_left: Tokens that the limits of the request leave for a branch, if these are fewer.
        judge: Scores its responses; None without rewards.
        steps: The steps of its search's chains.
        after: Tokens sampled one after another before it could begin.
        prompt_tokens: Tokens of its prompt.

    """

    branches: list[Trajectory[Any]] = field(default_factory=list)
    reading: Reading = field(default_factory=Reading)
    started: list[Trajectory[Any]] = field(default_factory=list)
    stops: frozenset[int] = frozenset()
    outcome: Outcome[Any] | None = None
    branch_max_tokens: int | None = None
    tokens_left: int | None = None
    judge: Judge[Any] | None = None
    steps: list[ChainStep] = field(default_factory=list)
    after: int = 0
    prompt_tokens: int = 0
    _leader: Trajectory[Any] | None = None
    _shown: int = 0

    @property
    def returned(self) -> Sequence[Trajectory[Any]]:
        """The trajectories of the returned choices."""
        return self.branches if self.outcome is None else self.outcome.winners

    @property
    def sampled_tokens(self) -> int:
        return sum(one.sampled_tokens for one in self.started)

    @property
    def cut_off(self) -> bool:
        """True if the limits of the request left a branch no token more."""
        left = self.tokens_left
        return left is not None and any(
            one.finish_reason == "length" and one.tokens >= left for one in self.branches
        )

    @property
    def cancelled_tokens(self) -> int:
        """Tokens of aborted branches that are in no response."""
        aborted = [one for one in self.branches if one.aborted]
        if not aborted:
            return 0
        kept = self._kept()
        return sum(one.sampled_tokens - kept.get(one, 0) for one in aborted)

    def _kept(self) -> dict[Trajectory[Any], int]:
        """Tokens in the responses that were sampled for each of these trajectories."""
        kept: dict[Trajectory[Any], int] = {}
        for returned in self.returned:
            one, tokens = returned, returned.tokens
            while True:
                kept[one] = max(kept.get(one, 0), tokens - one.start.begun)
                if one.start.prefix is None:
                    break
                tokens = min(tokens, one.start.prefix.tokens)
                one = one.start.prefix.trajectory
        return kept

    @property
    def sequential_tokens(self) -> int:
        """Tokens sampled one after another on the longest way to any trajectory's end."""
        return self.after + max((one.sequential_tokens for one in self.started), default=0)

    def leader(self) -> Leader | None:
        """The leading branch, with its text since it was last asked for; None if there is none.

        The branch that has got furthest takes the lead and keeps it as long as it runs.
        """
        if self._leader is None or not self._leader.running:
            running = [one for one in self.branches if one.running]
            self._leader = max(running, key=lambda one: one.tokens, default=None)
            self._shown = 0
        if self._leader is None:
            return None
        text = self._leader.text_from(self._shown)
        self._shown = len(self._leader.pieces)
        return Leader(branch=self._leader.branch, tokens=self._leader.tokens, text=text)


class Ledger:
    """All generations of one HTTP request, and the clock.

    Args:
        clock: Seconds, from any zero.
        in_turn: Whether a generation begins when the one before has ended, as the turns of a tool
            loop do; the prompts of one request run side by side.

    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, *, in_turn: bool = False
    ) -> None:
        self.generations: list[Generation] = []
        self._clock = clock
        self._in_turn = in_turn
        self._began = clock()
        self.stopped_by: str | None = None
        """The limit that ended the request before it had ended by itself."""
        self.failure: Failure | None = None
        """The fault that ended it; None without one, or for one of the engine's."""
        self.first_token_seconds: float | None = None
        """Seconds to the first token of the response, where it is streamed; None before that."""
        self.first_answer_seconds: float | None = None
        """Seconds to the first token after the thinking; None before that."""

    def open(self, reading: Reading | None = None) -> Generation:
        """Start the books of an engine call."""
        after = self.sequential_tokens if self._in_turn else 0
        generation = Generation(reading=reading or Reading(), after=after)
        self.generations.append(generation)
        return generation

    @property
    def branches(self) -> list[Trajectory[Any]]:
        return [one for generation in self.generations for one in generation.branches]

    @property
    def returned(self) -> Iterator[tuple[Generation, Trajectory[Any]]]:
        """The trajectories of the returned choices, in the response's order."""
        for generation in self.generations:
            for trajectory in generation.returned:
                yield generation, trajectory

    @property
    def sampled_tokens(self) -> int:
        return sum(generation.sampled_tokens for generation in self.generations)

    @property
    def sequential_tokens(self) -> int:
        return max((generation.sequential_tokens for generation in self.generations), default=0)

    @property
    def seconds(self) -> float:
        """Seconds since the request was planned."""
        return self._clock() - self._began

    @property
    def running(self) -> int:
        return sum(one.running for one in self.branches)

    @property
    def busy(self) -> bool:
        """True while a branch runs, or a response is being scored."""
        judges = (generation.judge for generation in self.generations)
        return bool(self.running) or any(judge.waiting for judge in judges if judge is not None)

    @property
    def finished(self) -> int:
        return sum(one.finished for one in self.branches)

    @property
    def cancelled(self) -> int:
        return sum(one.aborted for one in self.branches)

    @property
    def limits(self) -> tuple[int, ...]:
        """Token limits of the returned choices."""
        limits = (generation.branch_max_tokens for generation, _ in self.returned)
        return tuple(limit for limit in limits if limit is not None)

    @property
    def seeds(self) -> tuple[int, ...] | None:
        """Seeds of the returned choices; None if the request names none."""
        seeds = (trajectory.seed for _, trajectory in self.returned)
        return tuple(seed for seed in seeds if seed is not None) or None

    def spent(self, *, answered: bool) -> Compute:
        """The cost of a request that has ended.

        Args:
            answered: Whether it was answered. Without an answer nothing is returned, and branches
                that it broke off are cancelled though nobody aborted them.

        """
        compute = self.compute()
        if answered:
            return compute
        cancelled = sum(one.sampled_tokens for one in self.branches if not one.finished)
        broken = {
            "returned_tokens": 0,
            "cancelled_tokens": cancelled,
            "lost_tokens": compute.sampled_tokens - cancelled,
        }
        return compute.model_copy(update=broken)

    def compute(self) -> Compute:
        """The cost so far; `sampled = returned + cancelled + lost`."""
        # In one go: every request asks for it, and mostly it has but one trajectory.
        sampled = cancelled = prefill = returned = 0
        for generation in self.generations:
            sampled += generation.sampled_tokens
            cancelled += generation.cancelled_tokens
            prefill += sum(one.prefill_tokens for one in generation.started)
            returned += sum(one.tokens for one in generation.returned)
        judges = [one.judge for one in self.generations if one.judge is not None]
        return Compute(
            sampled_tokens=sampled,
            returned_tokens=returned,
            cancelled_tokens=cancelled,
            lost_tokens=sampled - returned - cancelled,
            sequential_tokens=self.sequential_tokens,
            prefill_tokens=prefill,
            reward_calls=sum(judge.spent.reward_calls for judge in judges),
            reward_tokens=sum(judge.spent.reward_tokens for judge in judges),
            wall_ms=round(self.seconds * 1e3, 3),
        )
