"""Measurements of the engine at each generated token of a line."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

ClosedBy = Literal["model", "budget", "entropy", "loop", "length", "certainty"]

CLOSED_BY: tuple[ClosedBy | None, ...] = (
    None,
    "model",
    "budget",
    "entropy",
    "loop",
    "length",
    "certainty",
)
"""What `Value.closed_by` stands for: its code is the index; None is open."""

_PACKED = struct.Struct("=6f")
VALUE_BYTES = _PACKED.size
"""Of a packed `Value`."""


class Value(NamedTuple):
    """Measurements of one generated token; NaN where they were not asked for.

    Attributes:
        entropy: Of the distribution that it was drawn from, before temperature and penalties; nats.
        logprob: Of the token in that distribution; nats.
        top: The largest probability of that distribution.
        strength: The balanced vector's strength from this token on.
        closed_by: What has closed the thinking phase up to this token: an index of `CLOSED_BY`.
        forced: 1 if the token was put there and not drawn.

    """

    entropy: float
    logprob: float
    top: float
    strength: float
    closed_by: int
    forced: int

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Out of the form in which it travels and is kept: a float32 for each of the fields."""
        entropy, logprob, top, strength, closed_by, forced = _PACKED.unpack(content)
        return cls(entropy, logprob, top, strength, int(closed_by), int(forced))

    def packed(self) -> bytes:
        """In that form."""
        return _PACKED.pack(*self)


@dataclass(slots=True)
class Track:
    """The generated tokens of a line, and what was measured at each.

    Attributes:
        token_ids: The tokens of the line.
        values: `values[k]`, a packed `Value`, belongs to `token_ids[k]`. While a line runs there
            may be more of them than tokens.
        key: The name under which the engine knows the line's request.
        choice: Which of the request's choices the line is; None if there are no others.

    """

    token_ids: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    key: str = ""
    choice: int | None = None
    _table: NDArray[np.float64] | None = field(default=None, init=False, repr=False)

    def add(self, token_ids: Sequence[int]) -> None:
        """Record the tokens of a step."""
        self.token_ids.extend(token_ids)

    def table(self) -> NDArray[np.float64]:
        """The values of all tokens at once: [tokens, fields of `Value`], a field to a column. Not
        to be written to."""
        if self._table is None or len(self._table) < len(self.token_ids):
            content = b"".join(self.values[: len(self.token_ids)])
            columns = len(Value._fields)
            table = np.frombuffer(content, np.float32).reshape(-1, columns)
            self._table = table.astype(np.float64)
        return self._table
