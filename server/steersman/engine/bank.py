"""The bank of steering rows on one rank: a row a layer for each distinct sum in use."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steersman.engine.slots import Slots

Addend = tuple[str, float, Sequence[int] | None]
"""A vector's digest, its strength, and the layers that it is added at; None for all it has."""


class BankError(RuntimeError):
    """The front end admitted a request for which the bank has no room or no vector."""


class Bank:
    """Rows by digest, counted by the requests that use them.

    A row that nobody uses stays until another sum needs it; the one unused for longest goes first.
    Every rank makes the same calls in the same order, so the same sum has the same row everywhere.

    Args:
        layers: The decoder layers of this pipeline stage.
        rows: Distinct sums that fit.
        hidden_size: Width of the residual stream.
        dtype: The model's.
        device: The model's.

    """

    def __init__(
        self, layers: range, rows: int, hidden_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.layers = layers
        self.rows = rows
        # [layers, rows + 1, hidden_size]; what is added to a spoiled request comes last
        self.storage = torch.zeros(len(layers), rows + 1, hidden_size, dtype=dtype, device=device)
        self.storage[:, rows] = torch.nan
        # By digest: [layers, hidden_size] float32, and the largest number of each layer
        self._vectors: dict[str, Tensor] = {}
        self._peaks: dict[str, list[float]] = {}
        self._slots = Slots(rows, device)
        self._uses: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()

    @property
    def spoiled(self) -> int:
        """The row of what ends a request, NaN: see `WorkerSteering.spoil`."""
        return self.rows

    @property
    def rows_in_use(self) -> int:
        return len(self._uses)

    @property
    def bytes(self) -> int:
        """Memory of the rows, and of the vectors they are made from."""
        tensors = [self.storage, *self._vectors.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def load(self, digest: str, layers: Mapping[int, Tensor]) -> None:
        """Keep a vector: [hidden_size] float32 for each layer, of which this stage's count."""
        vector = torch.zeros(len(self.layers), self.storage.shape[2], dtype=torch.float32)
        for layer, values in layers.items():
            if layer in self.layers:
                vector[self.layers.index(layer)] = values
        self._vectors[digest] = vector.to(self.storage.device)
        self._peaks[digest] = vector.abs().amax(dim=1).tolist()

    def unload(self, digest: str) -> None:
        """Forget a vector. Rows that were made from it stay valid."""
        self._vectors.pop(digest, None)
        self._peaks.pop(digest, None)

    def take(self, digest: str, addends: Sequence[Addend]) -> int:
        """The row of a sum, made if it is not there; counts one use.

        Raises:
            BankError: All rows are in use, a vector is not loaded, or the sum is not finite in the
                dtype of the model.

        """
        if digest not in self._slots:
            total = self._total(addends)
            self._make_room()
            with self._slots.writing(digest) as row:
                self.storage[:, row].copy_(total)
        self._idle.pop(digest, None)
        self._uses[digest] = self._uses.get(digest, 0) + 1
        return self._slots[digest]

    def give(self, digest: str) -> None:
        """Count one use less."""
        self._uses[digest] -= 1
        if not self._uses[digest]:
            del self._uses[digest]
            self._idle[digest] = None

    def _make_room(self) -> None:
        if self._slots.full:
            if not self._idle:
                raise BankError(f"all {self.rows} steering rows are in use")
            digest, _ = self._idle.popitem(last=False)
            self._slots.take_back(digest)

    def _total(self, addends: Sequence[Addend]) -> Tensor:
        """The sum of scaled vectors: [layers, hidden_size] float32."""
        self._check(addends)
        total = torch.zeros_like(self.storage[:, 0], dtype=torch.float32)
        for digest, strength, layers in addends:
            vector = self._vectors[digest]
            if layers is None:
                total.add_(vector, alpha=strength)
            else:
                for layer in set(layers) & set(self.layers):
                    index = self.layers.index(layer)
                    total[index].add_(vector[index], alpha=strength)
        return total

    def _check(self, addends: Sequence[Addend]) -> None:
        """Refuse a sum that could overflow. Its size is known here, and the device not asked."""
        sizes = [0.0] * len(self.layers)
        for digest, strength, layers in addends:
            if digest not in self._peaks:
                raise BankError(f"steering vector {digest[:16]} is not loaded")
            if not abs(strength) <= torch.finfo(torch.float32).max:
                raise BankError(f"a strength of {strength:g} is not finite in float32")
            for place, peak in enumerate(self._peaks[digest]):
                if layers is None or self.layers[place] in layers:
                    sizes[place] += abs(strength) * peak
        if not max(sizes) <= torch.finfo(self.storage.dtype).max:
            raise BankError(f"a sum of steering vectors is not finite in {self.storage.dtype}")
