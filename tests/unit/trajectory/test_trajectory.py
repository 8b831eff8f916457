"""Tokens and text of a trajectory by their places, whatever its pieces are."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steersman.trajectory.trajectory import Piece, Start, Trajectory

PIECES = st.lists(st.tuples(st.integers(0, 3), st.text("ab", max_size=3)), max_size=8)
"""Tokens and text of each piece; either may be empty."""


def trajectory(pieces: list[tuple[int, str]]) -> Trajectory[Any]:
    made: Trajectory[Any] = Trajectory(Start(0))
    for tokens, text in pieces:
        made.add(Piece(tuple(range(made.tokens, made.tokens + tokens)), text, None, None))
    return made


@given(PIECES, st.integers(0, 24), st.integers(0, 24))
def test_the_pieces_within_bounds_have_their_tokens(
    pieces: list[tuple[int, str]], begin: int, length: int
) -> None:
    one = trajectory(pieces)
    end = min(begin + length, one.tokens)
    found = one.within(begin, end)
    tokens = [token for piece, first, last in found for token in piece.token_ids[first:last]]
    assert tokens == [*range(begin, end)]
    assert all(first < last for _, first, last in found)


@given(PIECES, st.integers(0, 24), st.data())
def test_text_goes_with_whole_pieces(
    pieces: list[tuple[int, str]], tokens: int, data: st.DataObject
) -> None:
    one = trajectory(pieces)
    whole, text, came = 0, "", 0
    for count, own in pieces:
        came += count
        if came <= tokens:
            whole, text = came, text + own
    begin = data.draw(st.integers(0, len(text)))
    assert one.in_steps(tokens) == whole
    assert one.text_of(tokens, begin) == text[begin:]
