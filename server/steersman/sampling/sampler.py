"""The port of a sampler: a source of trajectories laid over another, so that each search has it."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel

from steersman.capabilities import Capabilities
from steersman.request import Request
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source

SpecT = TypeVar("SpecT", bound=BaseModel)


class Sampler(ABC, Generic[SpecT]):
    """A way to sample each trajectory.

    Attributes:
        spec: Its fields in `control.sampler`; the literal of `method` names it.

    """

    spec: ClassVar[type[BaseModel]]

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
