"""Phases and answers of the responses to one prompt."""

from dataclasses import dataclass
from typing import Any

from steersman.trajectory.phases import Markers, Phases, split
from steersman.trajectory.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Reading:
    """Begin and end of the phases of a response.

    Attributes:
        markers: The model's thinking markers; None for a model without a thinking phase.
        opened: Whether the prompt leaves the thinking phase open.
        closing: Tokens that close the phase.

    """

    markers: Markers | None = None
    opened: bool = False
    closing: tuple[int, ...] = ()

    def phases(self, trajectory: Trajectory[Any]) -> Phases:
        return split(trajectory.token_ids, trajectory.text, self.markers, opened=self.opened)
