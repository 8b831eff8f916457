"""The port of a search: which trajectories of a prompt to run, and which of them to return."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel

from steersman.capabilities import Capabilities
from steersman.needs import Need
from steersman.request import Request
from steersman.reward.judge import Judge
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source, Start, Trajectory
from steersman_client import ChainStep, RewardTerm

SpecT = TypeVar("SpecT", bound=BaseModel)


@dataclass(slots=True)
class Search(Generic[OutputT]):
    """The search on one prompt, as its policy sees it.

    Attributes:
        source: Where trajectories are started; of several searches each has its own.
        choices: Responses to return.
        reading: Where the phases of a response begin and end.
        started: The policy's trajectories, which others may watch.
        truncations: The sampling parameters that cut distributions off: top_p, top_k, min_p. A
            `Start.whole` sets them aside.
        judge: Scores its responses; None for a policy without rewards.
        steps: The steps of the policy's chains, which others may watch.

    """

    source: Source[OutputT]
    choices: int
    reading: Reading = field(default_factory=Reading)
    started: list[Trajectory[OutputT]] = field(default_factory=list)
    truncations: tuple[str, ...] = ()
    judge: Judge[OutputT] | None = None
    steps: list[ChainStep] = field(default_factory=list)
    _scoring: set[asyncio.Task[tuple[float, ...]]] = field(default_factory=set)

    def start(self, starts: Iterable[Start[OutputT]]) -> Sequence[Trajectory[OutputT]]:
        """Start trajectories: all, or none."""
        trajectories = self.source.start_all(list(starts))
        self.started.extend(trajectories)
        return trajectories

    def start_branches(self, count: int) -> Sequence[Trajectory[OutputT]]:
        """Start independent samples, numbered from 0."""
        return self.start(Start(branch) for branch in range(count))

    async def scores(self, trajectories: Sequence[Trajectory[OutputT]]) -> tuple[float, ...] | None:
        """Scores of trajectories that have ended, in their order; None if the search was stopped
        meanwhile.

        Raises:
            RewardError: A reward gave no usable scores.

        """
        assert self.judge is not None, "the policy has named no rewards"
        task = asyncio.create_task(self.judge.scores(trajectories))
        self._scoring.add(task)
        try:
            await asyncio.wait((task,))
            return None if task.cancelled() else task.result()
        finally:
            self._scoring.discard(task)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """Abort all trajectories that still run, and give up what is being scored."""
        for task in self._scoring:
            task.cancel()
        await self.source.stop([one for one in self.started if one.running])


class Policy(ABC, Generic[SpecT]):
    """A search method.

    Attributes:
        spec: Its fields in `control.search`; the literal of `method` names it.
        needs: Things that it cannot do without.
        width: The field of its spec that the number of branches follows from.
        reward_field: The field of its spec that names rewards.
        makes_steps: Whether it tells of steps.

    """

    spec: ClassVar[type[BaseModel]]
    needs: ClassVar[frozenset[Need]] = frozenset()
    width: ClassVar[str] = "n"
    reward_field: ClassVar[str] = "reward"
    makes_steps: ClassVar[bool] = False

    @abstractmethod
    def branches(self, spec: SpecT) -> int:
        """Trajectories of one prompt that run side by side."""

    def needs_of(self, spec: SpecT) -> frozenset[Need]:
        """Things that it cannot do without, as a request asks for it."""
        return self.needs

    def rewards(self, spec: SpecT) -> Sequence[RewardTerm]:
        """The rewards that it judges by: a search of them has a `judge`."""
        return ()

    def check(self, spec: SpecT, request: Request, capabilities: Capabilities) -> None:
        """Refuse a request that the search cannot serve.

        Raises:
            ControlError: It cannot.

        """

    @abstractmethod
    async def run(self, spec: SpecT, search: Search[OutputT]) -> Outcome[OutputT]:
        """Run the search to its end. The trajectories that it started have ended by then.

        Raises:
            Exception: An error of the engine; the trajectories are cancelled.

        """
