"""The port of a reward: a number that says how good a response is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from steersman.reward.candidate import Candidate, Measure, See

LARGEST = 40.0
"""Bound of every score, in both directions: e^40 is as good as infinite in any ratio."""


class RewardSpec(BaseModel):
    """Options that every reward has in the operator's file; a literal `type` names the class."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    see: See = "answer"
    """The part that is judged: the answer, or the thinking too."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds for one batch."""
    max_batch: int = Field(default=64, ge=1)
    """Responses that are scored together."""


class NoData(BaseModel):
    """Data of a reward that takes none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SpecT = TypeVar("SpecT", bound=RewardSpec)


class Reward(ABC, Generic[SpecT]):
    """A reward. `score` may be called again while a call runs, and be cancelled at any time.

    Attributes:
        spec: Its options in the operator's file; the literal of `type` names it.
        data: Fields of the data that a request may give it; refusals name them.
        options: The options that it was made with.

    Args:
        options: An instance of its `spec`.

    Raises:
        ValueError: Options that it cannot work with; the message says why.

    """

    spec: ClassVar[type[BaseModel]]
    data: ClassVar[type[BaseModel]] = NoData

    def __init__(self, options: SpecT) -> None:
        self.options = options

    @property
    def needs(self) -> frozenset[Measure]:
        """Measurements at the tokens that it cannot do without."""
        return frozenset()

    @abstractmethod
    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """A score for each of the candidates, in their order: more is better.

        The score of a candidate depends on nothing else in the batch.

        Args:
            candidates: Responses with a closed thinking phase, to one prompt or to many, of one
                request or of many; each with its own `data`.

        Raises:
            Exception: It cannot score them; who asked is told the reason.

        """

    async def close(self) -> None:
        """Free what it holds, at the end of the server."""
