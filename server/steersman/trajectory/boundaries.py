"""Tokens at which a line or a sentence ends: where a reasoner decides how to go on."""

from collections.abc import Iterable

_ENDS = tuple(".?!…。？！")
_CLOSERS = "\"'”’»)]}*_`"


def ends_segment(text: str) -> bool:
    """True if a token's text ends a line or a sentence.

    A line ends with any newline in the text. A sentence ends with its mark, which quotes, brackets,
    Markdown emphasis and spaces may follow.
    """
    return "\n" in text or text.rstrip().rstrip(_CLOSERS).endswith(_ENDS)


def boundary_table(texts: Iterable[str]) -> bytes:
    """A byte for each token of a vocabulary, in the order of the ids: 1 at a boundary."""
    return bytes(ends_segment(text) for text in texts)
