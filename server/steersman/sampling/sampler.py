"""The port of a sampler: a source of trajectories laid over another, so that each search has it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from steersman.capabilities import Capabilities
from steersman.needs import Need
from steersman.request import Request
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source
from steersman_client import Trials

SpecT = TypeVar("SpecT", bound=BaseModel)


@dataclass(slots=True)
class Record:
    """Record of a sampler on one trajectory, for receipts and events: `Trajectory.sampling`.

    Attributes:
        trials: The choices between trials, in their order.

    """

    trials: list[Trials] = field(default_factory=list)


class Sampler(ABC, Generic[SpecT]):
    """A way to sample each trajectory.

    Attributes:
        spec: Its fields in `control.sampler`; the literal of `method` names it.
        needs: Things that it cannot do without.

    """

    spec: ClassVar[type[BaseModel]]
    needs: ClassVar[frozenset[Need]] = frozenset()

    def check(self, spec: SpecT, request: Request, capabilities: Capabilities) -> None:
        """Refuse a request that the sampler cannot serve.

        Raises:
            ControlError: It cannot.

        """

    @abstractmethod
    def wrap(self, spec: SpecT, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        """A source whose trajectories are sampled so.

        Args:
            spec: The fields of the method.
            source: Where its engine requests are started.
            reading: Where the phases of a response begin and end.

        """

    def applied(self, spec: SpecT, records: Sequence[Record]) -> Mapping[str, Any]:
        """Its fields of `applied.sampler` in the receipt, beside the method.

        Args:
            spec: The fields of the method.
            records: Those of the request's trajectories, returned ones and others.

        """
        return {}
