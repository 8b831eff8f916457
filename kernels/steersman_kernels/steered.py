"""State of a request in the gate: the table's columns, and the markers it must know.

The table of steered requests has one int32 row, a "seat", per live request:

| column | holds |
|---|---|
| `ORIGIN` | prompt tokens of the request: the positions below are the prompt |
| `OPENED` | position of the token that opened the thinking phase, or `NEVER` |
| `CLOSED` | position of the token that closed it, or `NEVER` |
| `ROWS` + class | bank row for the tokens of a class, -1 where these are not steered |
| `COUNTS` + class | tokens of the class steered so far |
| `EDITED` | tokens that have gone through the request's edit so far |
| `RECENT` + position % `MARKER_TOKENS` | the last generated tokens, in which markers are found |

The class of a token is `2 * segment + boundary`: the segment is 0 in the prompt, 1 in the thinking
phase (`OPENED <= position < CLOSED`), 2 in the answer, and `boundary` is 1 if the token's text ends
a line or a sentence. The token that opens or closes is the last one of a marker, or a token that
closes by itself and belongs to the answer, as that of a tool call does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

ORIGIN = 0
OPENED = 1
CLOSED = 2
ROWS = 3
CLASSES = 6
COUNTS = ROWS + CLASSES
EDITED = COUNTS + CLASSES
RECENT = 16
MARKER_TOKENS = 16
WIDTH = RECENT + MARKER_TOKENS
NEVER = 2**31 - 1


@dataclass(frozen=True)
class Markers:
    """The tokens that open and close the thinking phase.

    Attributes:
        start: `[<= MARKER_TOKENS]`, int32: the marker that opens it; empty if there is none.
        end: `[<= MARKER_TOKENS]`, int32: the marker that closes it; empty if there is none.
        implicit: `[any]`, int32: tokens each of which closes it too, as the first of the answer.

    """

    start: Tensor
    end: Tensor
    implicit: Tensor

    @classmethod
    def of(cls, start: Sequence[int], end: Sequence[int], implicit: Sequence[int] = ()) -> Self:
        """The markers on the host, from token ids."""
        return cls(*(torch.tensor(list(ids), dtype=torch.int32) for ids in (start, end, implicit)))

    def to(self, device: torch.device) -> "Markers":
        """The same on a device."""
        return Markers(self.start.to(device), self.end.to(device), self.implicit.to(device))
