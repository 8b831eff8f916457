"""Result of choosing among the trajectories of a prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from steersman.trajectory.trajectory import OutputT, Trajectory


@dataclass(frozen=True, slots=True)
class Outcome(Generic[OutputT]):
    """The winners in the order of the choices, and how they were found.

    Attributes:
        winners: Trajectories to return.
        decided_by: A word for how; `fallback` where the policy's conditions were not met.
        applied: The policy's own fields of `applied.search` in the receipt.

    """

    winners: tuple[Trajectory[OutputT], ...]
    decided_by: str
    applied: Mapping[str, Any] = field(default_factory=dict)
