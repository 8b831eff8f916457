"""The two phases of a reasoner's response: thinking, then the answer.

The one definition, which the gate, the governor, the monitor and the receipts share:

- A response begins in the thinking phase if its prompt leaves that open (`opens_thinking`);
  otherwise in the answer, until the marker that opens the phase has come.
- A marker that opens is no thinking token, not even where the response begins with one although its
  prompt has opened the phase.
- The phase ends at the first marker that closes it, or before the first token of a tool call. What
  follows is the answer, whatever stands there.
- An end that comes before the phase was opened leaves a response without one.
"""

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
    implicit: tuple[int, ...] = ()
    """Tokens each of which closes the phase too, as the first of the answer: a tool call's."""
    implicit_text: tuple[str, ...] = ()
    """Their texts."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Marker of the beginning of the assistant's turn in a prompt.

    Attributes:
        boundaries: Tokens that stand between turns, or begin or end one.
        header: Tokens that the chat template begins the assistant's turn with.

    """

    boundaries: frozenset[int] = frozenset()
    header: tuple[int, ...] = ()

    def begun(self, prompt_token_ids: Sequence[int]) -> tuple[Sequence[int], bool]:
        """The prompt from the turn's beginning on, and whether it ends with the header.

        Without a trace of turns, the whole prompt.
        """
        begin = 0
        for place in range(len(prompt_token_ids) - 1, -1, -1):
            if prompt_token_ids[place] in self.boundaries:
                begin = place + 1
                break
        header = find_last(prompt_token_ids, self.header) if self.header else None
        if header is not None and header + len(self.header) >= begin:
            begin = header + len(self.header)
            return prompt_token_ids[begin:], begin == len(prompt_token_ids)
        return prompt_token_ids[begin:], False


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
        opened: Whether the prompt leaves the thinking phase open.

    """
    span = thinking_span(token_ids, markers, opened=opened) if markers is not None else None
    if span is None or markers is None:
        return Phases(0, text)
    if span.closing is None:
        return Phases(len(span.thinking), None)
    if not span.closing:
        token = markers.implicit.index(token_ids[span.closing.start])
        place = text.find(markers.implicit_text[token])
        return Phases(len(span.thinking), text[max(place, 0) :])
    _, marker, answer = text.partition(markers.end_text)
    # Markers that are special tokens leave no trace in the text.
    return Phases(len(span.thinking), answer if marker else text)


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds of the phases among the generated tokens; the markers are in neither.

    Attributes:
        opening: Indices of the marker that opens it; what stands before is part of the answer.
            Empty where the prompt has opened it.
        thinking: Indices of the thinking tokens.
        closing: Indices of the marker that closes it; the rest is the answer. Empty where a tool
            call closes it, from whose first token on all is the answer. None while thinking is not
            closed.

    """

    opening: range
    thinking: range
    closing: range | None


def thinking_span(
    token_ids: Sequence[int], markers: Markers, *, opened: bool = False
) -> Span | None:
    """Find where a response thinks; None if it does not.

    Args:
        token_ids: The generated tokens.
        markers: The model's markers.
        opened: Whether the prompt leaves the thinking phase open.

    """
    start = find(token_ids, markers.start)
    begin = 0 if start is None else start + len(markers.start)
    if opened:
        begin = begin if start == 0 else 0
        closing = _closing(token_ids, markers, begin)
    else:
        closing = _closing(token_ids, markers, 0)
        if start is None or (closing is not None and max(closing.stop - 1, closing.start) < begin):
            return None
    opening = range(begin - len(markers.start) if begin else 0, begin)
    if closing is None:
        return Span(opening, range(begin, len(token_ids)), None)
    return Span(opening, range(begin, max(begin, closing.start)), closing)


def _closing(token_ids: Sequence[int], markers: Markers, begin: int) -> range | None:
    """The first end of the phase whose last token is at `begin` or later."""
    length = len(markers.end)
    found = [
        range(place, place)
        for place in (find(token_ids, (token,), begin) for token in markers.implicit)
        if place is not None
    ]
    marker = find(token_ids, markers.end, max(begin - length + 1, 0))
    if marker is not None:
        found.append(range(marker, marker + length))
    # A marker ends where its last token stands, a call begins with its only one.
    return min(found, key=lambda closing: max(closing.stop - 1, closing.start), default=None)


def closes_at(token_ids: Sequence[int], markers: Markers, index: int) -> bool:
    """Tell whether a marker that closes the phase is complete with a token.

    Args:
        token_ids: The generated tokens.
        markers: The model's markers.
        index: Index of the token.

    """
    begin = index + 1 - len(markers.end)
    marked = begin >= 0 and tuple(token_ids[begin : index + 1]) == markers.end
    return marked or token_ids[index] in markers.implicit


def opens_thinking(
    prompt_token_ids: Sequence[int],
    markers: Markers | None,
    turn: Turn | None = None,
    *,
    assumed: bool = False,
) -> bool:
    """Tell whether a prompt ends inside an open thinking phase (as R1-style templates leave it).

    Markers in earlier turns are text.

    Args:
        prompt_token_ids: The prompt.
        markers: The model's markers; None for a model without a thinking phase.
        turn: How turns are told apart; None looks at the whole prompt.
        assumed: Whether a response to a turn that has not begun is taken to think from its first
            token on.

    """
    if markers is None:
        return False
    begun, fresh = (turn or Turn()).begun(prompt_token_ids)
    start = find_last(begun, markers.start)
    ends = [find_last(begun, markers.end), *(find_last(begun, (one,)) for one in markers.implicit)]
    end = max((place for place in ends if place is not None), default=None)
    if start is None and end is None:
        return assumed and fresh
    return start is not None and (end is None or end < start)


def find(token_ids: Sequence[int], marker: Sequence[int], begin: int = 0) -> int | None:
    """Index of the first occurrence of a token sequence, from an index on; None without one."""
    wanted, place = [*marker], begin - 1
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
