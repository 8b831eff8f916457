"""Changing the weight of a linear layer of a loaded model, and changing it back."""

from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

from steersman.edits.edit import EditError
from steersman.engine.compat.projections import OutputProjection, multiplication

_SPARE_ROWS = 128
"""Rows of a weight that are exchanged at a time: 2 MiB of 16-bit numbers at 8,192 columns."""


class LiveWeight:
    """The weight of an output projection in a running engine.

    On a GPU the values change in place: compiled code and CUDA graphs keep its address. On a CPU
    vLLM packs the weight into a form of its own and drops it, so a changed one is packed anew.

    Args:
        output: The output projection.
        fixed: Why the weight cannot be changed in this engine; None if it can.

    """

    def __init__(self, output: OutputProjection, fixed: str | None) -> None:
        self.head_dim = output.head_dim
        self.start = output.start
        self.total: int = output.module.input_size
        self._module = output.module
        self._fixed = fixed
        # Each is values, or a packed form and what it leaves of the weight.
        self._loaded: Any = None  # None while the layer has it
        self._ready: Any = None
        self._spare: Tensor | None = None
        self._reverts = False

    def original(self) -> Tensor:
        """The weight as it was loaded: [hidden_size, columns of this rank].

        Raises:
            EditError: It is quantised, or this engine cannot change it.

        """
        if self._fixed is not None:
            raise EditError(self._fixed, field="edit")
        method = multiplication(self._module)
        if not isinstance(method, UnquantizedLinearMethod):
            raise EditError(
                f"the weights are quantised ({type(method).__name__}): an edit can be put on "
                "offer to requests instead, which leaves the weights alone",
                field="edit",
            )
        loaded = self._loaded
        if self._is_packed:
            linear, weight = loaded or (self._module.cpu_linear, self._module.weight)
            return self._unpacked(linear, weight)
        values: Tensor = self._module.weight.data if loaded is None else loaded
        return values

    def prepare(self, weight: Tensor | None) -> None:
        """Get all ready that `swap` needs.

        Args:
            weight: To compute with, of the original's shape; None for the original.

        """
        self._reverts = weight is None
        if weight is None:
            self._ready = self._loaded
        elif self._is_packed:
            self._ready = _packed(weight)
        else:
            self._ready = torch.empty_like(self._module.weight.data).copy_(weight)
        if not self._is_packed:
            self._spare = torch.empty_like(self._module.weight.data[:_SPARE_ROWS])

    def swap(self) -> None:
        """Exchange the prepared weight and the layer's own; an error leaves both as they were."""
        module, ready = self._module, self._ready
        if self._is_packed:
            self._ready = (module.cpu_linear, module.weight)
            module.cpu_linear, module.weight = ready
            return
        assert self._spare is not None
        _exchange(module.weight.data, ready, self._spare)

    def keep(self) -> None:
        """Keep the weight that the layer has had since `swap`."""
        if self._reverts:
            self._loaded = None
        elif self._loaded is None:
            self._loaded = self._ready  # what was exchanged
        self.discard()

    def discard(self) -> None:
        """Let go of the prepared weight."""
        self._ready = self._spare = None

    @property
    def _is_packed(self) -> bool:
        return hasattr(self._module, "cpu_linear")

    def _unpacked(self, linear: Any, weight: Any) -> Tensor:
        """The weight that was packed: what the layer makes of the unit vectors, which is exact."""
        columns = self._module.input_size_per_partition
        unit = torch.eye(columns, dtype=self._module.params_dtype)
        product: Tensor = linear(unit, weight, None)
        return product.t().contiguous()


def _exchange(one: Tensor, other: Tensor, spare: Tensor) -> None:
    """Exchange the values of two tensors, some rows at a time; an error leaves both as they were.

    Args:
        one: [rows, columns].
        other: The same.
        spare: [some rows, columns], to be written over.

    """
    parts = zip(torch.split(one, len(spare)), torch.split(other, len(spare)), strict=True)
    exchanged: list[tuple[Tensor, Tensor]] = []
    try:
        for part in parts:
            _exchange_rows(*part, spare)
            exchanged.append(part)
    except BaseException:
        for part in reversed(exchanged):
            _exchange_rows(*part, spare)
        raise


def _exchange_rows(one: Tensor, other: Tensor, spare: Tensor) -> None:
    """Exchange the values of two tensors that are no longer than the spare one."""
    held = spare[: len(one)].copy_(one)
    try:
        one.copy_(other)
        try:
            other.copy_(held)
        except BaseException:
            other.copy_(one)
            raise
    except BaseException:
        one.copy_(held)
        raise


def _packed(weight: Tensor) -> tuple[Any, Any]:
    """A weight in the form that vLLM multiplies with on a CPU, and what is left of it."""
    layer: Any = nn.Module()
    layer.weight = nn.Parameter(weight, requires_grad=False)
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    return layer.cpu_linear, layer.weight
