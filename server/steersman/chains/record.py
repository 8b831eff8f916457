"""Record of chains as a client sees them: the steps that a stream tells of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from steersman_client.receipt import Measured


class Step(BaseModel):
    """One step of a chain, as the event `steps` tells of it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    chain: int
    accepted: bool
    target: Measured = None
    """Of the state after the step: a reward, or α log p."""
    tokens: int
    """Length of that state."""
    acceptance: float
    """Share of the steps that were accepted in this chain so far."""


@dataclass(slots=True)
class Record:
    """Steps of all chains so far.

    Attributes:
        steps: In the order in which they were told of.

    """

    steps: list[Step] = field(default_factory=list)

    def add(self, steps: Iterable[Step]) -> None:
        self.steps.extend(steps)

    @property
    def chains(self) -> Mapping[int, Sequence[Step]]:
        """Steps by the number of the chain."""
        chains: dict[int, list[Step]] = {}
        for step in self.steps:
            chains.setdefault(step.chain, []).append(step)
        return dict(sorted(chains.items()))
