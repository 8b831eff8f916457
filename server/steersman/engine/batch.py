"""Messages between a model runner and the controls of its steps: arrivals, batches, counts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman.wire import RequestMessage, StepMessage


class Arrival(NamedTuple):
    """A request that comes into the batch, or comes back after a preemption.

    Attributes:
        request_id: The engine's id.
        content: The message that came with the request; `message` decodes it.
        token_ids: All tokens known so far.
        computed: How many of them are in the KV cache already.
        greedy: Whether its tokens are the likeliest ones, and not drawn.

    """

    request_id: str
    content: Mapping[str, Any] | RequestMessage
    token_ids: Sequence[int]
    computed: int
    greedy: bool = False

    @property
    def message(self) -> RequestMessage:
        """The control of the request.

        Raises:
            msgspec.ValidationError: There is none that could be read.

        """
        return RequestMessage.decoded(self.content)


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
        steered: The steered requests, as `wire.listed` packs them: each one's row of the counts.
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

    def message(self) -> StepMessage:
        """The form in which it travels, once the tables may be read."""
        return StepMessage.of(self.steered, self.counts, self.watched, self.track)


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
