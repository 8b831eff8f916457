"""Phases and answers of the responses to one prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steersman.trajectory.phases import Markers, Phases, split, thinking_span
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

    def thinking_tokens(self, token_ids: Sequence[int]) -> int:
        """Number of thinking tokens among those of a response, markers not counted."""
        if self.markers is None:
            return 0
        span = thinking_span(token_ids, self.markers, opened=self.opened)
        return 0 if span is None else len(span.thinking)

    def phases(self, trajectory: Trajectory[Any]) -> Phases:
        return split(trajectory.token_ids, trajectory.text, self.markers, opened=self.opened)
