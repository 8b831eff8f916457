"""Slots, the rows that are in use in tables on the device; and the table of steered requests."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steersman.engine.batch import Batch
from steersman_kernels import layout as at
from steersman_kernels.gate import gate
from steersman_kernels.vocabulary import Vocabulary


class Slots:
    """Slots that are given out and taken back, under the id of a request or another key.

    Args:
        capacity: How many there are: rows of the table.
        device: Where the table is.

    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._device = device
        self._slots: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def __getitem__(self, key: str) -> int:
        return self._slots[key]

    @property
    def full(self) -> bool:
        """True if no slot is free."""
        return not self._free

    def give(self, key: str) -> int:
        """The slot of a key: its own if it has one, else a free one."""
        if key not in self._slots:
            self._slots[key] = self._free.pop()
        return self._slots[key]

    def take_back(self, key: str) -> int:
        """Free a key's slot."""
        slot = self._slots.pop(key)
        self._free.append(slot)
        return slot

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[int]:
        """Give a slot whose row is written in the body of the `with`; if that fails, a key that had
        none has none again."""
        new = key not in self
        slot = self.give(key)
        try:
            yield slot
        except BaseException:
            if new:
                self.take_back(key)
            raise

    def of(self, request_ids: Sequence[str]) -> Tensor:
        """The slots of a batch: [requests] int32 on the device, -1 for a request without one."""
        slots = [self._slots.get(id_, -1) for id_ in request_ids]
        return upload(torch.tensor(slots, dtype=torch.int32), self._device)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for the device."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensor: Tensor) -> NDArray[Any]:
    """A tensor of the device on the host; of the CPU's, a view.

    From a GPU the copy is only queued: the caller must not read it before the stream got there.
    """
    if not tensor.is_cuda:
        return tensor.numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True).numpy()


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


class SteeredTable:
    """The table of live steered requests, which the gate reads at every step: a slot for each.

    Args:
        capacity: Requests that can be live.
        device: Where the table is.

    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        # [capacity, WIDTH] int32; the columns are those of `steersman_kernels.layout`
        self.table = torch.zeros(capacity, at.WIDTH, dtype=torch.int32, device=device)
        self._device = device
        self._slots = Slots(capacity, device)
        self._staged: dict[int, Tensor] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._slots

    def warm_up(self, vocabulary: Vocabulary) -> None:
        """Compile what reads cached tokens, and a step's, now: so that no request waits for it."""
        _row(Request(1, False, (-1,) * len(at.CLASSES), (0,), computed=1), vocabulary)
        if self._device.type != "cpu":
            nobody = upload(torch.full((1,), -1, dtype=torch.int32), self._device)
            gate(
                self.table,
                slots=nobody,
                query_start=torch.arange(2, dtype=torch.int32, device=self._device),
                positions=nobody.long(),
                token_ids=nobody,
                vocabulary=vocabulary.to(self._device),
                bank_rows=torch.empty_like(nobody),
            )

    def add(self, request_id: str, request: Request, vocabulary: Vocabulary) -> None:
        """Give a request a slot, or write its row anew.

        Its row is written as if its cached tokens had been computed by itself: they were steered
        in the same way, by it or by one with the same configuration.
        """
        self._staged[self._slots.give(request_id)] = _row(request, vocabulary)

    def remove(self, request_id: str) -> None:
        """Free a request's slot."""
        self._staged.pop(self._slots.take_back(request_id), None)

    def of(self, request_ids: Sequence[str]) -> Tensor:
        """The slots of a batch: [requests] int32 on the device, -1 for a request without one."""
        return self._slots.of(request_ids)

    def write(self) -> None:
        """Bring the table on the device up to date."""
        if self._staged:
            slots = upload(torch.tensor(list(self._staged), dtype=torch.int64), self._device)
            rows = upload(torch.stack(list(self._staged.values())), self._device)
            self.table.index_copy_(0, slots, rows)
            self._staged.clear()

    def count_edited(self, tokens: Tensor, request_ids: Sequence[str]) -> None:
        """Count tokens that go through an edit: [requests] int32 on the device."""
        self.table[:, at.EDITED].index_add_(0, self.of(request_ids), tokens)

    def outside_thinking(self, batch: Batch, slots: Tensor, values: Tensor, value: float) -> None:
        """Set `values`, [tokens], to `value` at the tokens of a step that are not in a thinking
        phase; at those of requests without a slot, to anything."""
        tokens = batch.tokens
        lengths = batch.query_start[: len(batch.request_ids) + 1].diff()
        slots = slots.clamp(min=0)
        state = self.table[slots.repeat_interleave(lengths, output_size=tokens)]
        position = batch.positions[:tokens]
        inside = (position >= state[:, at.ORIGIN]) & (position >= state[:, at.OPENED])
        inside &= position < state[:, at.CLOSED]
        values[:tokens].masked_fill_(~inside, value)

    def counts(self, slots: Tensor) -> NDArray[np.int32]:
        """Tokens so far: [requests, classes + 1] int32 on the host.

        Steered ones by class, then those that went through an edit.

        From a GPU the copy is only queued: the caller must not read it before the stream got there.
        """
        return download(self.table.index_select(0, slots)[:, at.COUNTS : at.EDITED + 1])


def _row(request: Request, vocabulary: Vocabulary) -> Tensor:
    """A request's row of the table, [WIDTH] int32 on the host, its cached tokens counted."""
    table = torch.zeros(1, at.WIDTH, dtype=torch.int32)
    table[0, at.ORIGIN] = request.origin
    table[0, at.OPENED] = 0 if request.opened else at.NEVER
    table[0, at.CLOSED] = at.NEVER
    table[0, at.ROWS : at.ROWS + len(at.CLASSES)] = torch.tensor(request.rows, dtype=torch.int32)
    if request.edited:
        table[0, at.EDITED] = request.computed
    if request.computed:
        gate(
            table,
            slots=torch.zeros(1, dtype=torch.int32),
            query_start=torch.tensor([0, request.computed], dtype=torch.int32),
            positions=torch.arange(request.computed),
            token_ids=torch.tensor(request.token_ids[: request.computed], dtype=torch.int32),
            vocabulary=vocabulary,
            bank_rows=torch.empty(request.computed, dtype=torch.int32),
        )
    return table[0]
