"""The rewards of one search, as it asks for the scores of its trajectories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from steersman.reward.candidate import Candidate
from steersman.reward.counted import Spent
from steersman.reward.rewards import Asked
from steersman.tracing import NO_SPAN, Span
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Trajectory


@dataclass(slots=True, eq=False)
class Judge(Generic[OutputT]):
    """Scores the responses to one prompt.

    Attributes:
        asked: The rewards of the request.
        reading: Where the phases of a response begin and end.
        prompt: The text of the prompt as the model has it.
        messages: The messages that the prompt was made from; empty if it came as text.
        spent: The cost so far.
        waiting: Responses that are being scored.
        span: Of the search, above the span of each scoring.

    """

    asked: Asked
    reading: Reading = field(default_factory=Reading)
    prompt: str = ""
    messages: Sequence[Mapping[str, Any]] = ()
    spent: Spent = field(default_factory=Spent)
    waiting: int = 0
    span: Span = NO_SPAN

    async def scores(self, trajectories: Sequence[Trajectory[OutputT]]) -> tuple[float, ...]:
        """Scores of trajectories that have ended, within ±40, in their order.

        Raises:
            RewardError: A reward gave no usable scores.

        """
        self.waiting += len(trajectories)
        try:
            with self.span.within("rewards") as span:
                if span.recorded:
                    names = [term.reward.name for term in self.asked.terms]
                    span.set({"steersman.rewards": names, "steersman.responses": len(trajectories)})
                return await self.asked.score(self._candidates(trajectories, span), self.spent)
        finally:
            self.waiting -= len(trajectories)

    def _candidates(
        self, trajectories: Sequence[Trajectory[OutputT]], span: Span
    ) -> Sequence[Candidate]:
        return [
            Candidate.of(
                one,
                self.reading,
                prompt=self.prompt,
                messages=self.messages,
                trace_headers=span.headers,
            )
            for one in trajectories
        ]
