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
    """What one step says of its controlled requests. From a GPU, the tensors may only be read once
    the outputs of the step are there.

    Attributes:
        keys: The key under which each of them reports, by the engine's id; there may be others.
        steered: The engine's ids of the steered requests.
        counts: [steered, classes + 1] int32 on the host, as `Seats.counts` has it.
        watched: The engine's ids of the requests that the governor watches.
        track: [watched, TRACK] float32 on the host, as `steersman_kernels.governor` has it.

    """

    keys: Mapping[str, str]
    steered: Sequence[str] = ()
    counts: Tensor | None = None
    watched: Sequence[str] = ()
    track: Tensor | None = None

    def report(self) -> "Report":
        """The form in which it travels to the scheduler."""
        return Report(
            self.keys,
            self.steered,
            [] if self.counts is None else self.counts.tolist(),
            self.watched,
            b"" if self.track is None else self.track.numpy().tobytes(),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """`Counted`, in one piece: the scheduler waits while it is packed and unpacked.

    Attributes:
        keys: As there.
        steered: As there.
        counts: Tokens steered so far by class, of each steered request.
        watched: As there.
        track: The bytes of the track.

    """

    keys: Mapping[str, str]
    steered: Sequence[str]
    counts: Sequence[Sequence[int]]
    watched: Sequence[str]
    track: bytes

    def said(self) -> dict[str, list[Any]]:
        """By the engine's id: the request's key, its counts (None if it is not steered), and the
        bytes of its row of the track (None if it is not watched)."""
        said: dict[str, list[Any]] = {}
        width = len(self.track) // max(1, len(self.watched))
        for place, id_ in enumerate(self.watched):
            said[id_] = [self.keys[id_], None, self.track[place * width : (place + 1) * width]]
        for id_, counts in zip(self.steered, self.counts, strict=True):
            said.setdefault(id_, [self.keys[id_], None, None])[1] = counts
        return said


class Driven(Protocol):
    """What the steps of a model runner drive."""

    def arrive(self, arrival: Arrival) -> None: ...

    def finish(self, request_id: str) -> None: ...

    def preempt(self, request_id: str) -> None: ...

    def begin(self, batch: Batch) -> None: ...

    def rest(self) -> None: ...

    def counted(self) -> Counted | None: ...
