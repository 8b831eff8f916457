"""The device's table of live steered requests, which the gate reads at every step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steersman.engine.batch import Batch
from steersman.engine.places import Places, download, upload
from steersman_kernels.gate import gate
from steersman_kernels.steered import (
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
        # [capacity, WIDTH] int32; the columns are those of `steersman_kernels.steered`
        self.table = torch.zeros(capacity, WIDTH, dtype=torch.int32, device=device)
        self._device = device
        self._places = Places(capacity, device)
        self._staged: dict[int, Tensor] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._places

    def warm_up(self, markers: Markers, boundary: Tensor) -> None:
        """Compile what reads cached tokens, and a step's, now: so that no request waits for it."""
        _row(Request(1, False, (-1,) * CLASSES, (0,), computed=1), markers, boundary)
        if self._device.type != "cpu":
            nobody = upload(torch.full((1,), -1, dtype=torch.int32), self._device)
            gate(
                self.table,
                seats=nobody,
                query_start=torch.arange(2, dtype=torch.int32, device=self._device),
                positions=nobody.long(),
                token_ids=nobody,
                boundary=boundary.to(self._device),
                markers=markers,
                slot=torch.empty_like(nobody),
            )

    def add(self, request_id: str, request: Request, markers: Markers, boundary: Tensor) -> None:
        """Give a request a seat, or write its seat anew.

        Its row is written as if its cached tokens had been computed by itself: they were steered
        in the same way, by it or by one with the same configuration.
        """
        self._staged[self._places.give(request_id)] = _row(request, markers, boundary)

    def remove(self, request_id: str) -> None:
        """Free a request's seat."""
        self._staged.pop(self._places.take_back(request_id), None)

    def of(self, request_ids: Sequence[str]) -> Tensor:
        """The seats of a batch: [requests] int32 on the device, -1 for a request without one."""
        return self._places.of(request_ids)

    def write(self) -> None:
        """Bring the table on the device up to date."""
        if self._staged:
            seats = upload(torch.tensor(list(self._staged), dtype=torch.int64), self._device)
            rows = upload(torch.stack(list(self._staged.values())), self._device)
            self.table.index_copy_(0, seats, rows)
            self._staged.clear()

    def count_edited(self, tokens: Tensor, request_ids: Sequence[str]) -> None:
        """Count tokens that go through an edit: [requests] int32 on the device."""
        self.table[:, EDITED].index_add_(0, self.of(request_ids), tokens)

    def outside_thinking(self, batch: Batch, seats: Tensor, values: Tensor, value: float) -> None:
        """Set `values`, [tokens], to `value` at the tokens of a step that are not in a thinking
        phase; at those of requests without a seat, to anything."""
        tokens = batch.tokens
        lengths = batch.query_start[: len(batch.request_ids) + 1].diff()
        seats = seats.clamp(min=0)
        state = self.table[seats.repeat_interleave(lengths, output_size=tokens)]
        position = batch.positions[:tokens]
        inside = (position >= state[:, ORIGIN]) & (position >= state[:, OPENED])
        inside &= position < state[:, CLOSED]
        values[:tokens].masked_fill_(~inside, value)

    def counts(self, seats: Tensor) -> NDArray[np.int32]:
        """Tokens so far: [requests, classes + 1] int32 on the host.

        Steered ones by class, then those that went through an edit.

        From a GPU the copy is only queued: the caller must not read it before the stream got there.
        """
        return download(self.table.index_select(0, seats)[:, COUNTS : EDITED + 1])


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
        gate(
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
