"""Steering on one rank: the vectors, the bank and the slots, driven by the model runner's steps."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from steersman.engine.bank import Bank, BankError
from steersman.engine.batch import NOBODY, Arrival, Batch, Coefficients
from steersman.engine.edited import ChosenEdits
from steersman.engine.op import Rows, install
from steersman.engine.slots import Request, SteeredTable
from steersman_kernels.gate import gate
from steersman_kernels.vocabulary import Vocabulary

if TYPE_CHECKING:
    from steersman.wire import SteeringMessage


@dataclass(frozen=True, slots=True)
class Steered:
    """The steered requests of a batch. They stay the same for many steps.

    Attributes:
        batch: All requests of the batch, by the engine's ids.
        rows: The steered ones, each with its row of the counts.
        of_batch: [batch] int32, the slot of each request, -1 without one.
        slots: [steered] int32, those of the steered ones.

    """

    batch: Sequence[str]
    rows: Mapping[str, int]
    of_batch: Tensor
    slots: Tensor


class WorkerSteering:
    """State of one rank for steering.

    Args:
        layers: The decoder layers of this rank's pipeline stage, by index.
        rows: Rows of the bank.
        hidden_size: Width of the residual stream.
        dtype: The model's.
        device: The model's.
        max_requests: Requests that a batch can have.
        max_tokens: Tokens that a batch can have, padding included.
        edits: The edits that requests can choose from; None without any.

    """

    def __init__(
        self,
        layers: Mapping[int, nn.Module],
        *,
        rows: int,
        hidden_size: int,
        dtype: torch.dtype,
        device: torch.device,
        max_requests: int,
        max_tokens: int,
        edits: ChosenEdits | None = None,
    ) -> None:
        stage = range(min(layers), max(layers) + 1)
        self.bank = Bank(stage, rows, hidden_size, dtype, device)
        self.rows = Rows(max_tokens, device)
        self.edits = edits
        for index, layer in layers.items():
            install(layer, self.bank.storage[stage.index(index)], self.rows)
        self._table = SteeredTable(max_requests, device)
        self._live: dict[str, SteeringMessage] = {}
        self._spoiled: set[str] = set()
        self._vocabulary = self._host_vocabulary = Vocabulary.of((), ())
        self._steered: Steered | None = None
        # Of the running step: its steered requests, and what they have come to with it.
        self._running: Steered | None = None
        self._counts: NDArray[np.int32] | None = None
        self._idle = True
        self._moved = False

    def arm(self, vocabulary: Vocabulary) -> None:
        """Learn the model's vocabulary, on the host."""
        self._host_vocabulary = vocabulary
        self._vocabulary = vocabulary.to(self.rows.bank_rows.device)
        self._table.warm_up(vocabulary)

    def load(self, digest: str, file: bytes) -> None:
        """Keep a vector: a safetensors file with a tensor `layer.{index}` for each layer."""
        tensors = load_safetensors(file)
        layers = {int(name.removeprefix("layer.")): values for name, values in tensors.items()}
        self.bank.load(digest, layers)

    def unload(self, digest: str) -> None:
        self.bank.unload(digest)

    def finish(self, request_id: str) -> None:
        """A request has left: for good, or to arrive again."""
        self._spoiled.discard(request_id)
        if steering := self._live.pop(request_id, None):
            self._free_slot(request_id)
            for digest, _ in steering.sums:
                self.bank.give(digest)

    def _free_slot(self, request_id: str) -> None:
        self._steered = None
        if request_id in self._table:
            self._table.remove(request_id)
        if self.edits is not None:
            self.edits.finish(request_id)

    def spoil(self, request_id: str) -> None:
        """Let every token of a request become no number from here on.

        So a rank that cannot take a request in, and whose word does not reach the scheduler, is
        heard: the rank that has the logits sees it, and ends the request.
        """
        self._spoiled.add(request_id)

    def arrive(self, arrival: Arrival) -> None:
        """Take a request in, its rows in the bank built or shared: all of it, or nothing.

        A request that fails here on one rank alone takes no row there. Rows are looked up by their
        sums, so those of the others stay where they are, on every rank.

        Raises:
            BankError: There is no room, a vector or an edit is not loaded, or a number is beyond
                what the model can hold.

        """
        message, request_id = arrival.message, arrival.request_id
        steering = message.steering
        assert steering is not None
        with contextlib.ExitStack() as undo:
            rows = []
            for digest, addends in steering.sums:
                rows.append(self.bank.take(digest, addends))
                undo.callback(self.bank.give, digest)
            self.finish(request_id)
            undo.callback(self._free_slot, request_id)
            request = Request(
                origin=message.origin,
                opened=message.opened,
                rows=[rows[index] if index >= 0 else -1 for index in steering.rows],
                token_ids=arrival.token_ids,
                computed=arrival.computed,
                edited=self._arrive_edited(request_id, steering.edit),
            )
            self._table.add(request_id, request, self._host_vocabulary)
            self._live[request_id] = steering
            undo.pop_all()

    def _arrive_edited(self, request_id: str, edit: tuple[str, float] | None) -> bool:
        if edit is None:
            return False
        if self.edits is None:
            raise BankError("this engine was started without rows for edits")
        digest, strength = edit
        self.edits.arrive(request_id, digest, strength)
        return True

    def begin(self, batch: Batch, coefficients: Coefficients | None = None) -> None:
        """Decide for every token of a step whether and how it is steered.

        Args:
            batch: The step.
            coefficients: Moves the strength of some of its requests; None if of no one.

        """
        self._running = self._counts = None
        if self._live:
            self._begin(batch, coefficients)
        else:
            self.rest()
        if self._spoiled:
            self._spoil(batch)

    def _begin(self, batch: Batch, coefficients: Coefficients | None) -> None:
        steered = self._steered
        if steered is None or steered.batch != batch.request_ids:
            steered = self._steered = self._find(list(batch.request_ids))
        if not steered.rows:
            self.rest()
            return
        self._running = steered
        self._table.write()
        gate(
            self._table.table,
            slots=steered.of_batch,
            query_start=batch.query_start,
            positions=batch.positions,
            token_ids=batch.token_ids,
            vocabulary=self._vocabulary,
            bank_rows=self.rows.bank_rows,
        )
        if coefficients is not None:
            coefficients(self.rows.coef, batch)
            self._table.outside_thinking(batch, steered.of_batch, self.rows.coef, 1.0)
        elif self._moved:
            self.rows.coef.fill_(1)
        self._moved = coefficients is not None
        self.rows.written(batch.tokens)
        self._idle = False
        if self.edits is not None:
            self.edits.begin(batch)
            self._count_edited(batch, self.edits.edited(batch.request_ids))
        # Before the model runs: whoever waits for the step's output has waited for this copy too.
        self._counts = self._table.counts(steered.slots)

    def _spoil(self, batch: Batch) -> None:
        starts = batch.query_start.tolist()
        for row, request_id in enumerate(batch.request_ids):
            if request_id in self._spoiled:
                self.rows.bank_rows[starts[row] : starts[row + 1]] = self.bank.spoiled
                self._idle = False
        self.rows.written(batch.tokens)

    def _find(self, batch: list[str]) -> Steered:
        request_ids = [id_ for id_ in batch if id_ in self._table]
        rows = {id_: row for row, id_ in enumerate(request_ids)}
        return Steered(batch, rows, self._table.of(batch), self._table.of(request_ids))

    def _count_edited(self, batch: Batch, request_ids: Sequence[str]) -> None:
        if not request_ids:
            return
        rows = {id_: row for row, id_ in enumerate(batch.request_ids)}
        edited = torch.tensor([rows[id_] for id_ in request_ids])
        edited = edited.to(batch.query_start.device, non_blocking=True)
        tokens = batch.query_start[edited + 1] - batch.query_start[edited]
        self._table.count_edited(tokens.to(torch.int32), request_ids)

    def rest(self) -> None:
        """Steer nothing in the next forward pass."""
        if not self._idle:
            self.rows.clear()
            self._idle = True
        if self.edits is not None:
            self.edits.rest()

    def counted(self) -> tuple[Mapping[str, int], NDArray[np.int32] | None]:
        """Counts of this step's steered requests, once: their rows, and
        [steered, classes + 1] int32, as `SteeredTable.counts` has it."""
        steered, self._running = self._running, None
        counts, self._counts = self._counts, None
        return (NOBODY, None) if steered is None else (steered.rows, counts)
