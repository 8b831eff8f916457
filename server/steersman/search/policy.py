"""The port of a search: which trajectories of a prompt to run, and which of them to return."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel

from steersman.capabilities import Capabilities
from steersman.needs import Need
from steersman.request import Request
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source, Start, Trajectory

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

    """

    source: Source[OutputT]
    choices: int
    reading: Reading = field(default_factory=Reading)
    started: list[Trajectory[OutputT]] = field(default_factory=list)
    truncations: tuple[str, ...] = ()

    def start(self, starts: Iterable[Start[OutputT]]) -> Sequence[Trajectory[OutputT]]:
        """Start trajectories: all, or none."""
        trajectories = self.source.start_all(list(starts))
        self.started.extend(trajectories)
        return trajectories

    def start_branches(self, count: int) -> Sequence[Trajectory[OutputT]]:
        """Start independent samples, numbered from 0."""
        return self.start(Start(branch) for branch in range(count))

    async def stop(self) -> None:
        """Abort all trajectories that still run."""
        await self.source.stop([one for one in self.started if one.running])


class Policy(ABC, Generic[SpecT]):
    """A search method.

    Attributes:
        spec: Its fields in `control.search`; the literal of `method` names it.
        needs: Things that it cannot do without.
        width: The field of its spec that the number of branches follows from.

    """

    spec: ClassVar[type[BaseModel]]
    needs: ClassVar[frozenset[Need]] = frozenset()
    width: ClassVar[str] = "n"

    @abstractmethod
    def branches(self, spec: SpecT) -> int:
        """Trajectories of one prompt that run side by side."""

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
