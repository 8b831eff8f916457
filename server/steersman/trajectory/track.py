"""Measurements of the engine at each generated token of a trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from steersman_kernels.layout import TRACK


@dataclass(slots=True)
class Track:
    """The generated tokens of a trajectory, and the measurements at each.

    Attributes:
        token_ids: The tokens of the trajectory.
        values: `values[k]`, a packed `Value`, belongs to `token_ids[k]`. While the trajectory
            runs there may be more of them than tokens.
        key: The name under which the engine knows the trajectory's request.
        choice: Its index among the request's choices; None if there are no others.

    """

    token_ids: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    key: str = ""
    choice: int | None = None
    _table: NDArray[np.float64] | None = field(default=None, init=False, repr=False)

    def add(self, token_ids: Sequence[int]) -> None:
        """Record the tokens of a step."""
        self.token_ids.extend(token_ids)

    def cut(self, tokens: int) -> None:
        """Forget the tokens after the first ones, as those behind a stop string."""
        del self.token_ids[tokens:]

    def table(self) -> NDArray[np.float64]:
        """The values of all tokens at once: [tokens, TRACK], the fields of `Value` as columns.
        Not to be written to."""
        if self._table is None or len(self._table) != len(self.token_ids):
            content = b"".join(self.values[: len(self.token_ids)])
            table = np.frombuffer(content, np.float32).reshape(-1, TRACK)
            self._table = table.astype(np.float64)
        return self._table
