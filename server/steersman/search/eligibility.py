"""Conditions that a trajectory has to meet before a search may return it or count its vote."""

from typing import Any

from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Trajectory


def eligibility(
    trajectory: Trajectory[Any], reading: Reading, require_answer: bool, min_thinking: int
) -> int:
    """Rank of a finished trajectory: 0 meets all conditions, more is worse.

    Args:
        trajectory: The trajectory.
        reading: Where its phases begin and end.
        require_answer: Whether it must have an answer.
        min_thinking: Thinking tokens that it must have.

    """
    if not trajectory.tokens:
        return 4
    if trajectory.finish_reason != "stop":
        return 3
    phases = reading.phases(trajectory)
    if require_answer and not phases.has_answer:
        return 2
    return 1 if phases.thinking_tokens < min_thinking else 0
