"""What the gate keeps of a request: the table's columns, and the markers it must know.

The table of steered requests has one int32 row, a "seat", per live request:

| column | holds |
|---|---|
| `ORIGIN` | prompt tokens of the request: the positions below are the prompt |
| `OPENED` | position of the token that opened the thinking phase, or `NEVER` |
| `CLOSED` | position of the token that closed it, or `NEVER` |
| `ROWS` + class | bank row for the tokens of a class, -1 where these are not steered |
| `COUNTS` + class | tokens of the class steered so far |
| `EDITED` | tokens that have gone through the request's edit so far |

The class of a token is `2 * segment + boundary`: the segment is 0 in the prompt, 1 in the thinking
phase (`OPENED <= position < CLOSED`), 2 in the answer, and `boundary` is 1 if the token's text ends
a line or a sentence.
"""

from dataclasses import dataclass

ORIGIN = 0
OPENED = 1
CLOSED = 2
ROWS = 3
CLASSES = 6
COUNTS = ROWS + CLASSES
EDITED = COUNTS + CLASSES
WIDTH = 16
NEVER = 2**31 - 1


@dataclass(frozen=True)
class Markers:
    """The single tokens that open and close the thinking phase, -1 where there is none."""

    start: int
    end: int
