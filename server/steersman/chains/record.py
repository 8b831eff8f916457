"""Record of chains as a client sees them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from steersman_client import ChainStep


@dataclass(slots=True)
class Record:
    """Steps of all chains so far.

    Attributes:
        steps: In the order in which a stream told of them.

    """

    steps: list[ChainStep] = field(default_factory=list)

    def add(self, steps: Iterable[ChainStep]) -> None:
        self.steps.extend(steps)

    @property
    def chains(self) -> Mapping[int, Sequence[ChainStep]]:
        """Steps by the number of the chain."""
        chains: dict[int, list[ChainStep]] = {}
        for step in self.steps:
            chains.setdefault(step.chain, []).append(step)
        return dict(sorted(chains.items()))
