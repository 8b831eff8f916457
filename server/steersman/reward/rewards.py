"""Rewards of a server, and the weighted sum of them that a request asks for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from steersman.errors import ControlError, path_of, reason_of
from steersman.reward import file
from steersman.reward.candidate import Candidate, Measure, See
from steersman.reward.counted import Counted, Spent
from steersman.reward.counting import RewardCounting
from steersman.reward.reward import LARGEST, Reward
from steersman_client import RewardTerm


@dataclass(frozen=True, slots=True)
class Term:
    """One reward of a weighted sum.

    Attributes:
        reward: The reward.
        weight: Multiplier of its scores.
        data: The request's data for it.
        see: The part that is judged; None to leave that to the reward.

    """

    reward: Counted
    weight: float
    data: Any
    see: See | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The rewards that a request asked for, as one.

    Attributes:
        terms: Those rewards.

    """

    terms: tuple[Term, ...]

    @property
    def needs(self) -> frozenset[Measure]:
        """Measurements at the tokens that they cannot do without."""
        return frozenset().union(*(term.reward.reward.needs for term in self.terms))

    async def score(
        self, candidates: Sequence[Candidate], spent: Spent | None = None
    ) -> tuple[float, ...]:
        """The weighted sums of the candidates' scores, within ±40, in their order.

        A candidate whose thinking is not closed has -40, whatever the weights.

        Args:
            candidates: Responses, of which all may be seen.
            spent: Where the cost is added.

        Raises:
            RewardError: One of the rewards gave no usable scores; the others are cancelled.

        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._scores(term, candidates, spent)) for term in self.terms
                ]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None
        sums = (sum(scores) for scores in zip(*(task.result() for task in tasks), strict=True))
        return tuple(
            max(-LARGEST, min(LARGEST, total)) if candidate.closed else -LARGEST
            for candidate, total in zip(candidates, sums, strict=True)
        )

    @staticmethod
    async def _scores(
        term: Term, candidates: Sequence[Candidate], spent: Spent | None
    ) -> list[float]:
        own = [replace(candidate, data=term.data) for candidate in candidates]
        return [term.weight * score for score in await term.reward.score(own, spent, term.see)]


class Rewards:
    """The rewards of a server, by their names.

    Args:
        rewards: The rewards.

    """

    def __init__(self, rewards: Mapping[str, Reward[Any]]) -> None:
        self._rewards = {name: Counted(name, reward) for name, reward in rewards.items()}

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The rewards that need no file, and an operator's over them.

        Raises:
            RewardFileError: The file cannot be used.

        """
        return cls(file.load(path))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._rewards))

    def count_in(self, registry: CollectorRegistry) -> None:
        """Register their metrics, and keep them from now on."""
        counting = RewardCounting(registry, self.names)
        for reward in self._rewards.values():
            reward.counting = counting

    def asked(self, terms: Sequence[RewardTerm], param: str) -> Asked:
        """Check the rewards that a request names, and the data that it gives them.

        Args:
            terms: The field of the request.
            param: Its path, as `control.search.reward`.

        Raises:
            ControlError: There is no such reward, or its data are not what it takes.

        """
        return Asked(
            tuple(self._term(term, f"{param}[{index}]") for index, term in enumerate(terms))
        )

    def _term(self, term: RewardTerm, param: str) -> Term:
        reward = self._rewards.get(term.name)
        if reward is None:
            raise ControlError(
                f"unknown reward {term.name!r}; this server has: {', '.join(self.names)}",
                param=f"{param}.name",
            )
        try:
            data = reward.reward.data.model_validate(term.data)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            path = path_of(f"{param}.data", fault["loc"])
            raise ControlError(f"{path}: {reason_of(fault)}", param=path) from None
        return Term(reward, term.weight, data, term.see)

    def refuse(self, reason: str) -> int:
        """Answer requests that wait for a score, and those that will ask for one, with HTTP 503.

        Returns:
            The number of responses that waited for one.

        """
        return sum(reward.refuse(reason) for reward in self._rewards.values())

    async def close(self) -> None:
        """Give up what is being scored, and free what the rewards hold."""
        for reward in self._rewards.values():
            await reward.close()
