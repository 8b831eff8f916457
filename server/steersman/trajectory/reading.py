"""Phases and answers of the responses to one prompt."""

from collections.abc import Callable
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
        text_of: The text of a single token, empty for a special one.

    """

    markers: Markers | None = None
    opened: bool = False
    closing: tuple[int, ...] = ()
    text_of: Callable[[int], str] = lambda _: ""

    def phases(self, trajectory: Trajectory[Any]) -> Phases:
        return split(trajectory.token_ids, trajectory.text, self.markers, opened=self.opened)
