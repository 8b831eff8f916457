"""Request edits on one rank: an op at the output projections of the attention.

An edit of the weights, `O <- O - w v̂ (v̂^T O)` at the columns of some heads (`steersman.edits`),
changes the projection's output by `-w <u, a> v̂` with u = v̂^T O at these columns, 0 elsewhere, and a
the projection's input. The op adds just that for the tokens of the requests that chose it, before
the output is summed over tensor-parallel ranks, each of which has its part of u and a. So edited
and other requests share a batch, and the weights can be of any kind, quantised ones included.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steersman.edits.edit import Edit, EditMetadata
from steersman.engine.bank import BankError
from steersman.engine.batch import Batch
from steersman.engine.compat.projections import Multiplication, OutputProjection, multiply_by
from steersman.engine.op import Rows, check_whole
from steersman.engine.slots import Slots
from steersman_kernels import project as kernel

_LIBRARY: Any = torch.library.Library("steersman", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(
    "project(Tensor(a!) output, Tensor inputs, Tensor read, Tensor write, Tensor bank_rows, "
    "Tensor coef) -> ()"
)


def _project(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, bank_rows: Tensor, coef: Tensor
) -> None:
    check_whole(output, write.shape[1])
    kernel.project(output, inputs, read, write, bank_rows, coef)


def _trace(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, bank_rows: Tensor, coef: Tensor
) -> None:
    """Trace as nothing but the change of `output` that the schema declares."""


for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("project", _project, _device)
_LIBRARY.impl("project", _trace, "Meta")


class _EditedMethod(Multiplication):
    """Multiplication method of a projection: vLLM's, and then the op."""

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        output: Tensor = self.wrapped.apply(layer, x, bias)
        rows = layer.steersman_edit_rows
        if torch.compiler.is_compiling() or not rows.eager:
            torch.ops.steersman.project(
                output,
                x,
                layer.steersman_read,
                layer.steersman_write,
                layer.steersman_edit_bank_rows,
                layer.steersman_edit_coef,
            )
        elif rows.busy:
            read, write = layer.steersman_read, layer.steersman_write
            _project(output, x, read, write, rows.bank_rows, rows.coef)
        return output


def _install(module: nn.Module, read: Tensor, write: Tensor, rows: Rows) -> None:
    for name, buffer in (
        ("steersman_read", read),
        ("steersman_write", write),
        ("steersman_edit_bank_rows", rows.bank_rows),
        ("steersman_edit_coef", rows.coef),
    ):
        module.register_buffer(name, buffer, persistent=False)
    module.steersman_edit_rows = rows  # type: ignore[assignment]
    multiply_by(module, _EditedMethod)


class ChosenEdits:
    """The edits on offer, and the requests that chose one.

    Args:
        outputs: The output projections of this rank's pipeline stage, by layer.
        rows: Edits that can be on offer.
        hidden_size: Width of the residual stream.
        device: The model's.
        max_tokens: Tokens that a batch can have, padding included.

    """

    def __init__(
        self,
        outputs: Mapping[int, OutputProjection],
        *,
        rows: int,
        hidden_size: int,
        device: torch.device,
        max_tokens: int,
    ) -> None:
        self.rows = Rows(max_tokens, device)
        self._outputs = outputs
        self._hidden_size = hidden_size
        columns = next(iter(outputs.values())).module.input_size_per_partition
        # [layers, rows, columns] and [layers, rows, hidden_size], float32
        self._read = torch.zeros(len(outputs), rows, columns, device=device)
        self._write = torch.zeros(len(outputs), rows, hidden_size, device=device)
        self._slots = Slots(rows, device)
        self._weights: dict[str, float] = {}
        self._live: dict[str, tuple[int, float]] = {}
        self._idle = True
        for place, output in enumerate(outputs.values()):
            _install(output.module, self._read[place], self._write[place], self.rows)

    @property
    def bytes(self) -> int:
        """Memory of the rows."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self._read, self._write))

    def probe(self) -> Edit:
        """An edit of every head of these layers, for the self-test."""
        generator = np.random.default_rng(0)
        output = next(iter(self._outputs.values()))
        size = output.head_dim
        heads = tuple(range(output.module.input_size // size))
        directions = {
            layer: generator.normal(size=self._hidden_size).astype(np.float32)
            for layer in self._outputs
        }
        return Edit(
            {layer: values / np.linalg.norm(values) for layer, values in directions.items()},
            {
                layer: generator.normal(size=(len(heads), size)).astype(np.float32)
                for layer in self._outputs
            },
            EditMetadata(
                weight=1.0,
                heads=dict.fromkeys(self._outputs, heads),
                head_dim=size,
                dtype="float32",
                weights=dict.fromkeys(self._outputs, "0" * 64),
            ),
        )

    def load(self, edit: Edit) -> None:
        """Put an edit on offer; an error leaves all as it was.

        Raises:
            BankError: All rows are taken.

        """
        if edit.digest not in self._slots and self._slots.full:
            raise BankError(f"all {self._read.shape[1]} rows for edits are taken")
        read, write = self._vectors(edit)
        with self._slots.writing(edit.digest) as row:
            self._read[:, row].copy_(read)
            self._write[:, row].copy_(write)
        self._weights[edit.digest] = edit.metadata.weight

    def _vectors(self, edit: Edit) -> tuple[Tensor, Tensor]:
        """An edit's rows on the device: [layers, columns] and [layers, hidden_size]."""
        size = edit.metadata.head_dim
        read = torch.zeros(len(self._outputs), self._read.shape[2])
        write = torch.zeros(len(self._outputs), self._hidden_size)
        for place, (layer, output) in enumerate(self._outputs.items()):
            if layer not in edit.layers:
                continue
            whole = torch.zeros(output.module.input_size)
            chosen = zip(edit.metadata.heads[layer], edit.projections[layer], strict=True)
            for head, values in chosen:
                whole[head * size : (head + 1) * size] = torch.from_numpy(values.copy())
            read[place] = whole[output.start : output.start + self._read.shape[2]]
            write[place] = torch.from_numpy(edit.directions[layer].copy())
        return read.to(self._read.device), write.to(self._write.device)

    def unload(self, digest: str) -> None:
        """Take an edit off, if it is there; no request may be using it."""
        if digest in self._slots:
            self._weights.pop(digest)
            self._slots.take_back(digest)

    def arrive(self, request_id: str, digest: str, strength: float) -> None:
        """A request that chose an edit has come into the batch.

        Raises:
            BankError: The edit is not on offer, or its strength is not finite in float32.

        """
        if digest not in self._slots:
            raise BankError(f"edit {digest[:16]} is not loaded")
        factor = -self._weights[digest] * strength
        if not abs(factor) <= torch.finfo(torch.float32).max:
            raise BankError(f"a strength of {factor:g} is not finite in float32")
        self._live[request_id] = (self._slots[digest], factor)

    def finish(self, request_id: str) -> None:
        """A request has left: for good, or to arrive again."""
        self._live.pop(request_id, None)

    def edited(self, request_ids: Sequence[str]) -> list[str]:
        """Requests, among these, that chose an edit."""
        return [id_ for id_ in request_ids if id_ in self._live]

    def begin(self, batch: Batch) -> None:
        """Write the row and the factor of every token of a step."""
        if not self.edited(batch.request_ids):
            self.rest()
            return
        # The last entry is for tokens beyond the last request's, if the runner has such.
        chosen = [*(self._live.get(id_, (-1, 1.0)) for id_ in batch.request_ids), (-1, 1.0)]
        rows, factors = zip(*chosen, strict=True)
        device, tokens = self.rows.bank_rows.device, batch.tokens
        ends = batch.query_start[1 : len(chosen)]
        token = torch.arange(tokens, dtype=ends.dtype, device=device)
        request = torch.searchsorted(ends, token, right=True)
        self.rows.bank_rows.fill_(-1)
        bank_rows = torch.tensor(rows, dtype=torch.int32).to(device, non_blocking=True)
        coef = torch.tensor(factors, dtype=torch.float32).to(device, non_blocking=True)
        self.rows.bank_rows[:tokens] = bank_rows[request]
        self.rows.coef[:tokens] = coef[request]
        self.rows.written(tokens)
        self._idle = False

    def rest(self) -> None:
        """Edit nothing in the next forward pass."""
        if not self._idle:
            self.rows.clear()
            self._idle = True
