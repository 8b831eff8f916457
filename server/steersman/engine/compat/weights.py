"""Changing the weight of a linear layer of a loaded model, and changing it back."""

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

from steersman.edits.edit import EditError
from steersman.engine.compat.projections import OutputProjection


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
        self._original: Tensor | None = None
        self._packed: tuple[Any, Any] | None = None

    def original(self) -> Tensor:
        """The weight as it was loaded: [hidden_size, columns of this rank].

        Raises:
            EditError: It is quantised, or this engine cannot change it.

        """
        if self._fixed is not None:
            raise EditError(self._fixed, field="edit")
        if not isinstance(self._method, UnquantizedLinearMethod):
            raise EditError(
                f"the weights are quantised ({type(self._method).__name__}): an edit can be put on "
                "offer to requests instead, which leaves the weights alone",
                field="edit",
            )
        if self._original is not None:
            return self._original
        if (packed := getattr(self._module, "cpu_linear", None)) is None:
            weight: Tensor = self._module.weight.data
            return weight
        return self._unpacked(packed)

    def put(self, weight: Tensor) -> None:
        """Compute with this weight from now on."""
        if self._original is None:
            self._original = self.original().clone()
        if not hasattr(self._module, "cpu_linear"):
            self._module.weight.data.copy_(weight)
            return
        if self._packed is None:
            self._packed = (self._module.cpu_linear, self._module.weight)
        self._module.weight = torch.nn.Parameter(weight, requires_grad=False)
        dispatch_cpu_unquantized_gemm(self._module, remove_weight=True)

    def revert(self) -> None:
        """Compute with the weight as it was loaded, bit for bit."""
        if self._packed is not None:
            self._module.cpu_linear, self._module.weight = self._packed
        elif self._original is not None:
            self._module.weight.data.copy_(self._original)
        self._original = self._packed = None

    @property
    def _method(self) -> Any:
        """How the layer multiplies: vLLM's own method, also where ours is around it."""
        method = self._module.quant_method
        return getattr(method, "wrapped", method)

    def _unpacked(self, packed: Any) -> Tensor:
        """The weight that was packed: what the layer makes of the unit vectors, which is exact."""
        columns = self._module.input_size_per_partition
        unit = torch.eye(columns, dtype=self._module.params_dtype)
        product: Tensor = packed(unit, self._module.weight, None)
        return product.t().contiguous()
