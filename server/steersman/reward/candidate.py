"""A response as a reward may look at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steersman.trajectory.phases import split, thinking_span
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Trajectory
from steersman_kernels.layout import T_ENTROPY, T_FORCED, T_LOGPROB, T_TOP

See = Literal["answer", "all"]
"""Part of a response that a reward sees: the answer, or the thinking too."""


class Measure(StrEnum):
    """A measurement at each token that a reward cannot do without."""

    ENTROPY = "entropy"
    """Of the distribution that it was drawn from, nats."""
    LOGPROB = "logprob"
    """Of the token in that distribution, nats."""
    TOP = "top"
    """The largest probability of that distribution."""


_COLUMNS = {Measure.ENTROPY: T_ENTROPY, Measure.LOGPROB: T_LOGPROB, Measure.TOP: T_TOP}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response, and what it answers.

    Attributes:
        text: The response, as much of it as may be seen.
        answer: The text after the thinking; None while thinking is not closed.
        thinking: The text of the thinking, without its markers; empty where it may not be seen.
        tokens: Number of tokens that may be seen.
        answer_tokens: Those of them that are the answer's, the end of the sequence included.
        track: The measurements at these tokens, [tokens, TRACK]; None if there are none.
        prompt: The text of the prompt as the model has it.
        messages: The messages that the prompt was made from; empty if it came as text.
        data: Facts about the request that it is judged by, as the reward's `data` has them.
        trace_headers: W3C trace context of its request, for a reward that asks another service;
            empty on a server without traces.

    """

    text: str
    answer: str | None
    thinking: str = ""
    tokens: int = 0
    answer_tokens: int = 0
    track: NDArray[np.float64] | None = field(default=None, compare=False)
    prompt: str = ""
    messages: Sequence[Mapping[str, Any]] = ()
    data: Any = None
    trace_headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        trajectory: Trajectory[Any],
        reading: Reading,
        *,
        prompt: str = "",
        messages: Sequence[Mapping[str, Any]] = (),
        trace_headers: Mapping[str, str] | None = None,
    ) -> "Candidate":
        """A trajectory as a candidate of which all may be seen.

        Args:
            trajectory: The trajectory.
            reading: Where its phases begin and end.
            prompt: The text of its prompt.
            messages: The messages that the prompt was made from.
            trace_headers: W3C trace context of its request.

        """
        text, tokens = trajectory.text, len(trajectory.token_ids)
        markers = reading.markers
        phases = split(trajectory.token_ids, text, markers, opened=reading.opened)
        span = (
            thinking_span(trajectory.token_ids, markers, opened=reading.opened)
            if markers is not None
            else None
        )
        begin = 0 if span is None else tokens if span.closing is None else span.closing.stop
        thinking = ""
        if span is not None and markers is not None:
            thinking = text.removesuffix(phases.answer) if phases.answer else text
            thinking = thinking.rpartition(markers.start_text)[2].removesuffix(markers.end_text)
        track = trajectory.track.table() if trajectory.track is not None else None
        return cls(
            text,
            phases.answer,
            thinking,
            tokens,
            tokens - begin,
            track if track is not None and len(track) == tokens else None,
            prompt,
            messages,
            trace_headers=trace_headers or {},
        )

    @property
    def closed(self) -> bool:
        """True if its thinking has ended, or there was none."""
        return self.answer is not None

    def seen(self, see: See) -> "Candidate":
        """The candidate with no more than a part of it to be seen."""
        if see == "all":
            return self
        track = None if self.track is None else self.track[self.tokens - self.answer_tokens :]
        return replace(
            self,
            text=self.answer or "",
            thinking="",
            tokens=self.answer_tokens,
            track=track,
        )

    def measured(self, measure: Measure) -> NDArray[np.float64]:
        """A measurement at each of its tokens that was drawn and not put there, [drawn tokens].

        Raises:
            ValueError: The engine has not measured it.

        """
        if self.track is None:
            raise ValueError(f"there are no measurements of {measure} at its tokens")
        column: NDArray[np.float64] = self.track[self.track[:, T_FORCED] == 0, _COLUMNS[measure]]
        if np.isnan(column).any():
            raise ValueError(f"there are no measurements of {measure} at some of its tokens")
        return column
