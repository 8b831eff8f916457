"""The two phases of a reasoner's response: thinking, then the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Markers(BaseModel):
    """The token sequences (and their text) that open and close the thinking phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: tuple[int, ...]
    end: tuple[int, ...]
    start_text: str
    end_text: str


@dataclass(frozen=True, slots=True)
class Phases:
    """A response, split.

    Attributes:
        thinking_tokens: Tokens of the thinking phase, markers not counted.
        answer: Text after the thinking phase; None while thinking is not closed.

    """

    thinking_tokens: int
    answer: str | None

    @property
    def has_answer(self) -> bool:
        return self.answer is not None and bool(self.answer.strip())


def split(
    token_ids: Sequence[int], text: str, markers: Markers | None, *, opened: bool = False
) -> Phases:
    """Split a response at the end of its thinking phase.

    Args:
        token_ids: The generated tokens.
        text: Their text.
        markers: The model's markers; None for a model without a thinking phase.
        opened: Whether the prompt already opened the thinking phase.

    """
    if markers is None:
        return Phases(0, text)
    span = thinking_span(token_ids, markers, opened=opened)
    if span is None:
        return Phases(0, text)
    if span.closing is None:
        return Phases(len(span.thinking), None)
    _, marker, answer = text.partition(markers.end_text)
    # Markers that are special tokens leave no trace in the text.
    return Phases(len(span.thinking), answer if marker else text)


@dataclass(frozen=True, slots=True)
class Span:
    """Where the phases stand among the generated tokens; the markers are in neither.

    Attributes:
        thinking: Indices of the thinking tokens.
        closing: Indices of the marker that closes it; the rest is the answer. None while thinking
            is not closed.

    """

    thinking: range
    closing: range | None


def thinking_span(
    token_ids: Sequence[int], markers: Markers, *, opened: bool = False
) -> Span | None:
    """Where a response thinks; None if it does not.

    A marker that closes what nothing had opened tells that the prompt had, unseen.

    Args:
        token_ids: The generated tokens.
        markers: The model's markers.
        opened: Whether the prompt already opened the thinking phase.

    """
    start = None if opened else find(token_ids, markers.start)
    end = find(token_ids, markers.end)
    if start is None and end is None and not opened:
        return None
    begin = 0 if start is None or (end is not None and end < start) else start + len(markers.start)
    if end is None:
        return Span(range(begin, len(token_ids)), None)
    return Span(range(begin, max(begin, end)), range(end, end + len(markers.end)))


def opens_thinking(prompt_token_ids: Sequence[int], markers: Markers | None) -> bool:
    """Whether a prompt ends inside an open thinking phase (as R1-style templates leave it)."""
    if markers is None:
        return False
    start = find_last(prompt_token_ids, markers.start)
    end = find_last(prompt_token_ids, markers.end)
    return start is not None and (end is None or end < start)


def find(token_ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """Index of the first occurrence of a token sequence, or None."""
    wanted, place = [*marker], -1
    while True:
        try:
            place = token_ids.index(marker[0], place + 1)
        except ValueError:
            return None
        if [*token_ids[place : place + len(wanted)]] == wanted:
            return place


def find_last(token_ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """Index of the last occurrence of a token sequence, or None."""
    width = len(marker)
    wanted = tuple(marker)
    for i in range(len(token_ids) - width, -1, -1):
        if tuple(token_ids[i : i + width]) == wanted:
            return i
    return None
