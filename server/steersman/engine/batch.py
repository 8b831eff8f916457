"""What passes between a model runner and what its steps drive: arrivals, batches, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Report = dict[str, list[Any]]
"""For each steered request of a step: its key, then the tokens steered so far by class."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes into the batch, or comes back after a preemption.

    Attributes:
        request_id: The engine's id.
        steering: The configuration as it came with the request: `Configuration.wire`.
        token_ids: All tokens known so far.
        computed: How many of them are in the KV cache already.

    """

    request_id: str
    steering: Mapping[str, Any]
    token_ids: Sequence[int]
    computed: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The token spans of a step, final.

    Attributes:
        request_ids: In the order of the batch.
        query_start: [requests + 1] int32, where each request's tokens start.
        positions: [tokens] int64.
        token_ids: [tokens] int32, the input tokens.

    """

    request_ids: Sequence[str]
    query_start: Tensor
    positions: Tensor
    token_ids: Tensor


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens steered so far, of the requests of one step.

    Attributes:
        request_ids: The engine's ids.
        keys: The keys under which they report.
        counts: [requests, classes + 1] int32 on the host, as `Seats.counts` has it. From a GPU it
            may only be read once the outputs of the step are there.

    """

    request_ids: Sequence[str]
    keys: Sequence[str]
    counts: Tensor

    def report(self) -> Report:
        """The form in which the counts travel to the front end."""
        rows = zip(self.request_ids, self.keys, self.counts.tolist(), strict=True)
        return {id_: [key, *row] for id_, key, row in rows}


class Driven(Protocol):
    """What the steps of a model runner drive."""

    def arrive(self, arrival: Arrival) -> None: ...

    def finish(self, request_id: str) -> None: ...

    def begin(self, batch: Batch) -> None: ...

    def rest(self) -> None: ...

    def counted(self) -> Counted | None: ...
