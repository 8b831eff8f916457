"""Messages between a model runner and the controls of its steps: arrivals, batches, counts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Arrival(NamedTuple):
    """A request that comes into the batch, or comes back after a preemption.

    Attributes:
        request_id: The engine's id.
        control: The message that came with it: `steersman.frontend.carrier.Carrier.wire`.
        token_ids: All tokens known so far.
        computed: How many of them are in the KV cache already.

    """

    request_id: str
    control: Mapping[str, Any]
    token_ids: Sequence[int]
    computed: int


class Batch(NamedTuple):
    """The token spans of a step, final.

    Attributes:
        request_ids: In the order of the batch.
        query_start: [> requests] int32, where each request's tokens start, and the last one's end.
        positions: [>= tokens] int64.
        token_ids: [>= tokens] int32, the input tokens.
        tokens: How many there are.

    """

    request_ids: Sequence[str]
    query_start: Tensor
    positions: Tensor
    token_ids: Tensor
    tokens: int


Coefficients = Callable[[Tensor, Batch], None]
"""Writes the factor of each token's steering: [tokens] float32, in place."""


OVERFLOW = "its logits are no numbers (NaN): what the control added overflowed in the model"
"""Why such a request ends."""


class Looked(NamedTuple):
    """The logits of a step that were looked at.

    From a GPU, they may only be read once the outputs of the step are there.

    Attributes:
        request_ids: The engine's ids.
        logits: [requests], one logit of each.

    """

    request_ids: Sequence[str]
    logits: NDArray[np.floating]

    def bad(self) -> list[str]:
        """The requests whose logits are no numbers."""
        return [self.request_ids[row] for row in np.flatnonzero(np.isnan(self.logits))]


class Counted(NamedTuple):
    """Measurements of one step for its controlled requests.

    From a GPU, the tables may only be read once the outputs of the step are there.

    Attributes:
        steered: The steered requests, as `listed` packs them: each one's row of the counts.
        counts: [steered, classes + 1] int32, as `SteeredTable.counts` has it.
        watched: The requests that the governor watches, packed alike: each one's row of the track.
        track: [watched, TRACK] float32, a packed `steersman_kernels.layout.Value` a row.
        refused: The requests that could not be taken in, each with a reason.
        looked: The logits that were looked at; None if none were.

    """

    steered: bytes
    counts: NDArray[np.int32] | None
    watched: bytes
    track: NDArray[np.float32] | None
    refused: Mapping[str, str] = {}
    looked: Looked | None = None

    def failed(self) -> dict[str, str]:
        """The requests that must end, each with the reason."""
        bad = self.looked.bad() if self.looked is not None else ()
        return {**dict.fromkeys(bad, OVERFLOW), **self.refused}

    def said(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The step message: the four fields in this order, the tables as bytes."""
        return self.steered, _bytes(self.counts), self.watched, _bytes(self.track)


def _bytes(table: NDArray[Any] | None) -> bytes:
    return b"" if table is None else table.tobytes()


def listed(request_ids: Iterable[str], keys: Mapping[str, str]) -> bytes:
    """Requests by the engine's id in the order of their rows, each with its key, packed: a batch
    stays the same for many steps, and each of these takes it through three processes."""
    return msgspec.msgpack.encode([(id_, keys[id_]) for id_ in request_ids])


def unlisted(content: bytes, width: int) -> dict[str, tuple[str, slice]]:
    """The key of each request that was packed, and where its row is in a table of such rows.

    Args:
        content: The result of `listed`.
        width: Bytes of a row.

    """
    return {
        id_: (key, slice(row * width, (row + 1) * width))
        for row, (id_, key) in enumerate(msgspec.msgpack.decode(content))
    }


NOBODY: Mapping[str, int] = {}
"""The rows of a step without requests. Like those of a batch, it is one object for many steps."""


class Driven(Protocol):
    """Controls driven by the steps of a model runner."""

    def arrive(self, arrival: Arrival) -> None: ...

    def finish(self, request_id: str) -> None: ...

    def preempt(self, request_id: str) -> None: ...

    def begin(self, batch: Batch) -> None: ...

    def rest(self) -> None: ...

    def counted(self) -> Counted | None: ...
