"""What passes between a model runner and what its steps drive: arrivals, batches, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes into the batch, or comes back after a preemption.

    Attributes:
        request_id: The engine's id.
        control: What came with the request: `steersman.engine.carrier.Carrier.wire`.
        token_ids: All tokens known so far.
        computed: How many of them are in the KV cache already.

    """

    request_id: str
    control: Mapping[str, Any]
    token_ids: Sequence[int]
    computed: int


@dataclass(frozen=True, slots=True)
class Batch:
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


@dataclass(frozen=True, slots=True)
class Counted:
    """What one step says of its controlled requests. From a GPU, the tensors may only be read once
    the outputs of the step are there.

    Attributes:
        keys: The key under which each of them reports, by the engine's id; there may be others.
        steered: The steered requests, by the engine's id: each one's row of the counts.
        counts: [steered, classes + 1] int32 on the host, as `Seats.counts` has it.
        watched: The requests that the governor watches, by the engine's id: each one's row of the
            track.
        track: [watched, TRACK] float32 on the host, as `steersman_kernels.governor` has it.

    """

    keys: Mapping[str, str]
    steered: Mapping[str, int]
    counts: Tensor | None
    watched: Mapping[str, int]
    track: Tensor | None

    def report(self) -> "Report":
        """The form in which it travels to the scheduler."""
        return Report(
            self.keys, self.steered, _bytes(self.counts), self.watched, _bytes(self.track)
        )


def _bytes(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.numpy().tobytes()


@dataclass(frozen=True, slots=True)
class Report:
    """`Counted`, its tensors as bytes: the scheduler waits while it is packed and unpacked."""

    keys: Mapping[str, str]
    steered: Mapping[str, int]
    counts: bytes
    watched: Mapping[str, int]
    track: bytes

    def said(self) -> dict[str, list[Any]]:
        """By the engine's id: the request's key, and the bytes of its counts and of its row of the
        track, None where it has none."""
        counts, values = _rows(self.counts, self.steered), _rows(self.track, self.watched)
        return {
            id_: [self.keys[id_], counts.get(id_), values.get(id_)] for id_ in {**counts, **values}
        }


def _rows(table: bytes, places: Mapping[str, int]) -> dict[str, bytes]:
    width = len(table) // max(1, len(places))
    return {id_: table[place * width : (place + 1) * width] for id_, place in places.items()}


class Driven(Protocol):
    """What the steps of a model runner drive."""

    def arrive(self, arrival: Arrival) -> None: ...

    def finish(self, request_id: str) -> None: ...

    def preempt(self, request_id: str) -> None: ...

    def begin(self, batch: Batch) -> None: ...

    def rest(self) -> None: ...

    def counted(self) -> Counted | None: ...
