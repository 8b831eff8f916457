"""Weight edits on one rank, which every request gets: applied and taken back between steps."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from steersman.edits import projection
from steersman.edits.edit import Edit, EditError


class Editable(Protocol):
    """The weight of an attention's output projection, of which this rank has some columns.

    Attributes:
        head_dim: Columns of a query head.
        start: Where this rank's columns begin, among all.
        total: Columns that all ranks have.

    """

    @property
    def head_dim(self) -> int: ...

    @property
    def start(self) -> int: ...

    @property
    def total(self) -> int: ...

    def original(self) -> Tensor:
        """The weight as it was loaded: [hidden_size, columns of this rank].

        Raises:
            EditError: It cannot be edited.

        """
        ...

    def prepare(self, weight: Tensor | None) -> None:
        """Get all ready that `swap` needs.

        Args:
            weight: To compute with, of the original's shape; None for the original, bit for bit.

        """
        ...

    def swap(self) -> None:
        """Put the prepared weights in place of the current ones; a second call exchanges them back.

        It takes no memory, so that it should not fail. If it does, nothing is exchanged.
        """
        ...

    def keep(self) -> None:
        """Keep the weights that are in place since `swap`."""
        ...

    def discard(self) -> None:
        """Let go of the prepared weights."""
        ...


class LiveEdits:
    """The weights of one rank, and the edits that they are to have.

    Args:
        weights: The output projections of this rank's pipeline stage, by layer.
        layers: Decoder layers of the whole model.

    """

    def __init__(self, weights: Mapping[int, Editable], layers: int) -> None:
        self._weights = weights
        self._layers = layers
        self._edited: set[int] = set()
        self._prepared: list[int] = []
        self._swapped: list[int] = []
        self._after: set[int] = set()  # edited once what is prepared is kept
        self._committed = False

    def prepare(self, edits: Sequence[Edit]) -> None:
        """Compute the weights with exactly these edits; nothing is changed yet.

        Raises:
            EditError: An edit was not made from these weights, or two edit one head.
            Exception: There is no room for the weights. Then nothing is prepared.

        """
        if self._committed:
            self.keep()
        else:
            self.undo()
        for edit in edits:
            self._check(edit)
        _refuse_overlaps(edits)
        self._after = {layer for edit in edits for layer in edit.layers if layer in self._weights}
        try:
            for layer in sorted(self._after | self._edited):
                weight = self._with(edits, layer) if layer in self._after else None
                self._weights[layer].prepare(weight)
                self._prepared.append(layer)
        except BaseException:
            self.undo()
            raise

    def commit(self) -> None:
        """Let the weights be those that were prepared last.

        Raises:
            Exception: One of them could not be exchanged. Then none is, and nothing is prepared.

        """
        try:
            for layer in self._prepared:
                self._weights[layer].swap()
                self._swapped.append(layer)
        except BaseException:
            self.undo()
            raise
        self._committed = True

    def undo(self) -> None:
        """Let the weights be those before the last `commit`, and nothing be prepared.

        Where that fails half-way, the next call goes on with the rest.
        """
        self._committed = False
        while self._swapped:
            self._weights[self._swapped[-1]].swap()
            self._swapped.pop()
        while self._prepared:
            self._weights[self._prepared.pop()].discard()

    def keep(self) -> None:
        """Forget what the weights were before the last `commit`."""
        for layer in self._swapped:
            self._weights[layer].keep()
        self._edited = self._after
        self._swapped, self._prepared, self._committed = [], [], False

    def _check(self, edit: Edit) -> None:
        """Refuse heads that the model does not have."""
        known = next(iter(self._weights.values()))
        if edit.metadata.head_dim != known.head_dim:
            raise EditError(
                f"the edit's heads have {edit.metadata.head_dim} columns, the model's have "
                f"{known.head_dim}",
                field="metadata.head_dim",
            )
        heads = known.total // known.head_dim
        for layer, chosen in edit.metadata.heads.items():
            if layer >= self._layers or max(chosen) >= heads:
                raise EditError(
                    f"the edit has head {max(chosen)} of layer {layer}, the model has "
                    f"{self._layers} layers of {heads} heads",
                    field=f"metadata.heads.{layer}",
                )

    def _with(self, edits: Sequence[Edit], layer: int) -> Tensor:
        editable = self._weights[layer]
        original = weight = editable.original()
        for edit in edits:
            if layer not in edit.layers:
                continue
            whole = projection.columns(edit.metadata.heads[layer], editable.head_dim)
            own = whole - editable.start
            inside = (own >= 0) & (own < original.shape[1])
            columns = own[inside].to(original.device)
            direction = torch.tensor(edit.directions[layer], device=original.device)
            written = torch.tensor(edit.projections[layer]).flatten()[inside].to(original.device)
            amount = edit.metadata.weight
            projection.verify(original, direction, written, columns, amount, layer)
            dtype = getattr(torch, edit.metadata.dtype)
            weight = projection.edited(weight, direction, written, columns, amount, dtype)
        return weight


def _refuse_overlaps(edits: Sequence[Edit]) -> None:
    seen: set[tuple[int, int]] = set()
    for edit in edits:
        heads = {(layer, head) for layer, own in edit.metadata.heads.items() for head in own}
        if both := sorted(seen & heads):
            layer, head = both[0]
            raise EditError(
                f"two edits change head {head} of layer {layer}: only one can be live at a time",
                field="edit",
            )
        seen |= heads
