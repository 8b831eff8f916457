"""The device's table of live steered requests, which the gate reads at every step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman_kernels.gate import (
    CLASSES,
    CLOSED,
    COUNTS,
    EDITED,
    NEVER,
    OPENED,
    ORIGIN,
    ROWS,
    WIDTH,
    Markers,
)
from steersman_kernels.reference import gate_reference


@dataclass(frozen=True, slots=True)
class Request:
    """A steered request as it comes into the batch, or comes back to it.

    Attributes:
        origin: Tokens of the prompt.
        opened: Whether the prompt leaves the thinking phase open.
        rows: Row of the bank for each class of tokens; -1 where nothing is added.
        token_ids: All tokens known so far.
        computed: How many of them are in the KV cache already.
        edited: Whether all its tokens go through an edit.

    """

    origin: int
    opened: bool
    rows: Sequence[int]
    token_ids: Sequence[int]
    computed: int
    edited: bool = False


class Seats:
    """A row of the table for each steered request.

    Args:
        capacity: Requests that can be live.
        device: Where the table is.

    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        # [capacity, WIDTH] int32; the columns are those of `steersman_kernels.gate`
        self.table = torch.zeros(capacity, WIDTH, dtype=torch.int32, device=device)
        self._device = device
        self._seat: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))
        self._staged: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._seat)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._seat

    def add(self, request_id: str, request: Request, markers: Markers, boundary: Tensor) -> None:
        """Give a request a seat, or write its seat anew.

        Its row is written as if its cached tokens had been computed by itself: they were steered
        in the same way, by it or by one with the same configuration.
        """
        if request_id not in self._seat:
            self._seat[request_id] = self._free.pop()
        self._staged[self._seat[request_id]] = _row(request, markers, boundary)

    def remove(self, request_id: str) -> None:
        """Free a request's seat."""
        seat = self._seat.pop(request_id)
        self._staged.pop(seat, None)
        self._free.append(seat)

    def of(self, request_ids: Sequence[str]) -> Tensor:
        """The seats of a batch: [requests] int32 on the device, -1 for a request without one."""
        return self._upload(
            torch.tensor([self._seat.get(id_, -1) for id_ in request_ids], dtype=torch.int32)
        )

    def write(self) -> None:
        """Bring the table on the device up to date."""
        if self._staged:
            seats = self._upload(torch.tensor(list(self._staged), dtype=torch.int64))
            self.table.index_copy_(0, seats, self._upload(torch.stack(list(self._staged.values()))))
            self._staged.clear()

    def count_edited(self, tokens: Tensor, request_ids: Sequence[str]) -> None:
        """Count tokens that go through an edit: [requests] int32 on the device."""
        seats = self._upload(torch.tensor([self._seat[id_] for id_ in request_ids]))
        self.table[:, EDITED].index_add_(0, seats, tokens)

    def counts(self, request_ids: Sequence[str]) -> Tensor:
        """Tokens so far: [requests, classes + 1] int32 on the host.

        Steered ones by class, then those that went through an edit.

        From a GPU the copy is only queued: the caller must not read it before the stream got there.
        """
        seats = self._upload(torch.tensor([self._seat[id_] for id_ in request_ids]))
        counts = self.table.index_select(0, seats)[:, COUNTS : EDITED + 1]
        if counts.device.type == "cpu":
            return counts
        host = torch.empty(counts.shape, dtype=counts.dtype, pin_memory=True)
        return host.copy_(counts, non_blocking=True)

    def _upload(self, tensor: Tensor) -> Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)


def _row(request: Request, markers: Markers, boundary: Tensor) -> Tensor:
    """A request's row of the table, [WIDTH] int32 on the host, its cached tokens counted."""
    table = torch.zeros(1, WIDTH, dtype=torch.int32)
    table[0, ORIGIN] = request.origin
    table[0, OPENED] = 0 if request.opened else NEVER
    table[0, CLOSED] = NEVER
    table[0, ROWS : ROWS + CLASSES] = torch.tensor(request.rows, dtype=torch.int32)
    if request.edited:
        table[0, EDITED] = request.computed
    if request.computed:
        gate_reference(
            table,
            seats=torch.zeros(1, dtype=torch.int32),
            query_start=torch.tensor([0, request.computed], dtype=torch.int32),
            positions=torch.arange(request.computed),
            token_ids=torch.tensor(request.token_ids[: request.computed], dtype=torch.int32),
            boundary=boundary,
            markers=markers,
            slot=torch.empty(request.computed, dtype=torch.int32),
        )
    return table[0]
