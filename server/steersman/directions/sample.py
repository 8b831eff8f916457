"""One response of the model that a direction is made for, with its thinking phase found."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steersman.directions.error import DirectionError
from steersman.trajectory import phases
from steersman.trajectory.phases import Markers


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and one response to it, as tokens.

    Attributes:
        problem: Id of the problem; samples of one problem share it.
        prompt: The rendered prompt.
        response: The generated tokens.
        correct: Whether the answer is right; None if that could not be verified.
        thinking: Positions within the response of the tokens of the thinking phase, markers not
            included; None if the phase was not opened or not closed.

    """

    problem: str
    prompt: tuple[int, ...]
    response: tuple[int, ...]
    correct: bool | None
    thinking: range | None

    @classmethod
    def of(
        cls,
        problem: str,
        prompt: Sequence[int],
        response: Sequence[int],
        *,
        correct: bool | None,
        markers: Markers | None,
        opened: bool,
    ) -> Self:
        """A sample from a generated response.

        Args:
            problem: Id of the problem.
            prompt: The rendered prompt.
            response: The generated tokens.
            correct: Whether the answer is right; None if that could not be verified.
            markers: The model's markers; None for a model without a thinking phase.
            opened: Whether the prompt already opened the thinking phase.

        """
        thinking = thinking_span(response, markers, opened=opened)
        return cls(problem, tuple(prompt), tuple(response), correct, thinking)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """A sample from its line.

        Raises:
            DirectionError: The line is no sample; the field is named.

        """
        try:
            read = _Line.model_validate_json(line)
        except ValidationError as error:
            raise _no_sample(error) from None
        thinking = None if read.thinking is None else range(*read.thinking)
        if thinking is not None and not thinking.start <= thinking.stop <= len(read.response):
            message = f"not a sample: thinking: {list(read.thinking or ())} is not in the response"
            raise DirectionError(message, field="thinking")
        return cls(read.problem, read.prompt, read.response, read.correct, thinking)

    def to_json(self) -> str:
        """The sample as one line of JSON, without its end; `thinking` is start and stop."""
        thinking = self.thinking
        values = {
            "problem": self.problem,
            "prompt": self.prompt,
            "response": self.response,
            "correct": self.correct,
            "thinking": None if thinking is None else (thinking.start, thinking.stop),
        }
        return json.dumps(values, separators=(",", ":"))

    @property
    def thinking_token_ids(self) -> tuple[int, ...]:
        """The tokens of the thinking phase; none if it was not opened or not closed."""
        span = self.thinking or range(0)
        return self.response[span.start : span.stop]

    @property
    def thinking_tokens(self) -> int:
        """Their number."""
        return 0 if self.thinking is None else len(self.thinking)


def thinking_span(
    response: Sequence[int], markers: Markers | None, *, opened: bool
) -> range | None:
    """Positions of the thinking tokens, between the markers; None for a phase without an end.

    Args:
        response: The generated tokens.
        markers: The model's markers; None for a model without a thinking phase.
        opened: Whether the prompt already opened the phase.

    """
    span = phases.thinking_span(response, markers, opened=opened) if markers else None
    return None if span is None or span.closing is None else span.thinking


def closed(samples: Iterable[Sample]) -> list[Sample]:
    """The samples whose thinking phase was closed and is not empty: those one can average over.

    Raises:
        DirectionError: There is none.

    """
    given = list(samples)
    found = [sample for sample in given if sample.thinking_tokens]
    if not found:
        raise DirectionError(
            f"none of {len(given)} samples has a thinking phase that was closed and is not empty: "
            "allow longer responses, or take a model that thinks",
            field="samples",
        )
    return found


_Natural = Annotated[int, Field(ge=0)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    problem: str
    prompt: tuple[_Natural, ...]
    response: tuple[_Natural, ...]
    correct: bool | None
    thinking: tuple[_Natural, _Natural] | None


def _no_sample(error: ValidationError) -> DirectionError:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = f"{where}: {first['msg']}" if where else first["msg"]
    field = str(first["loc"][0]) if first["loc"] else None
    return DirectionError(f"not a sample: {reason}", field=field)
