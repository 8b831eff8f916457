"""Output projections as vLLM's layers keep them, of the made-up model."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

from steersman.engine.compat.projections import OutputProjection
from steersman.engine.compat.weights import LiveWeight
from steersman.engine.live import LiveEdits
from tests.unit.edits import made_up


class Projection(nn.Module):
    """An output projection on one rank.

    Args:
        weight: Its weight: [hidden_size, columns].
        packed: Whether vLLM has packed it, as it does on a CPU; else it is plain, as on a GPU.

    """

    def __init__(self, weight: Tensor, *, packed: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)
        self.input_size = self.input_size_per_partition = weight.shape[1]
        self.params_dtype = weight.dtype
        self.quant_method: Any = UnquantizedLinearMethod()
        if packed:
            dispatch_cpu_unquantized_gemm(self, remove_weight=True)

    def matrix(self) -> Tensor:
        """Weight that the layer computes with: [columns, hidden_size]."""
        unit = torch.eye(self.input_size, dtype=self.params_dtype)
        if hasattr(self, "cpu_linear"):
            product: Tensor = self.cpu_linear(unit, self.weight, None)
            return product
        return nn.functional.linear(unit, self.weight)


class Rank:
    """The output projections of a rank that has the whole model.

    Args:
        packed: See `Projection`.
        seed: Of the model's weights.

    Attributes:
        modules: By layer.
        live: The edits of their weights.

    """

    def __init__(self, *, packed: bool, seed: int = 0) -> None:
        tensors = made_up.tensors(seed=seed)
        self.modules = {
            layer: Projection(
                tensors[f"model.layers.{layer}.self_attn.o_proj.weight"], packed=packed
            )
            for layer in range(made_up.LAYERS)
        }
        weights = {layer: LiveWeight(output, None) for layer, output in self.outputs().items()}
        self.live = LiveEdits(weights, made_up.LAYERS)

    def outputs(self) -> dict[int, OutputProjection]:
        return {
            layer: OutputProjection(module, made_up.HEAD_DIM, 0)
            for layer, module in self.modules.items()
        }

    def matrices(self) -> Tensor:
        """Weights that the layers compute with: [layers, columns, hidden_size]."""
        return torch.stack([module.matrix() for module in self.modules.values()])


_LETTING_GO = ("_local_scalar_dense", "release_dnnl_matmul_handler")
"""Operations of vLLM's handlers of packed weights when they are collected, which may be at any
time: they read a number, and give memory back."""


class OutOfMemory(TorchDispatchMode):
    """Lets one operation fail.

    Args:
        at: Operations that go well before it.
        of: Name of those that count; all do if empty.

    Attributes:
        failed: Whether it has come to that.

    """

    def __init__(self, at: int, of: str = "") -> None:
        super().__init__()
        self.failed = False
        self._left = at
        self._of = of

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        self._left -= name == self._of or (not self._of and name not in _LETTING_GO)
        if self._left == -1 and not self.failed:
            self.failed = True
            raise torch.OutOfMemoryError(str(function))
        return function(*args, **(kwargs or {}))


class NoMemory(TorchDispatchMode):
    """Refuses every operation but views of memory, copies into it, and what gives it back."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        views = ("slice", "split", "detach", "alias", "copy_", *_LETTING_GO)
        assert function.overloadpacket.__name__ in views, function
        return function(*args, **(kwargs or {}))
