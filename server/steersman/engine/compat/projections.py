"""Finding the output projection of each attention of a vLLM model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from vllm.model_executor.layers.linear import RowParallelLinear

from steersman.engine.compat.layers import UnsupportedModelError

# Linear attention has heads of its own, which are not the query heads.
_ATTENTION = re.compile(r"(?<!linear_)att(n|ention)")


@dataclass(frozen=True, slots=True)
class OutputProjection:
    """The output projection of a decoder layer's attention, as this rank holds it.

    Its input, and the columns of its weight, go by query head.

    Attributes:
        module: vLLM's `RowParallelLinear`.
        head_dim: Columns of a head.
        start: Where this rank's slice begins, among all columns.

    """

    module: Any
    head_dim: int
    start: int


class Multiplication:
    """Multiplication method of a projection that stands around vLLM's. All that a subclass does not
    override is vLLM's own.

    Args:
        wrapped: vLLM's.

    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply: [tokens, columns] to [tokens, hidden_size]."""
        raise NotImplementedError


def multiply_by(module: Any, method: type[Multiplication]) -> None:
    """Let a method stand around the multiplication of a projection."""
    module.quant_method = method(module.quant_method)


def multiplication(module: Any) -> Any:
    """The multiplication method of a projection: vLLM's own, also where ours is around it."""
    method = module.quant_method
    return method.wrapped if isinstance(method, Multiplication) else method


def output_projections(layers: Mapping[int, nn.Module], heads: int) -> dict[int, OutputProjection]:
    """The output projection of each decoder layer.

    Args:
        layers: The decoder layers of this rank's pipeline stage, by index.
        heads: Query heads of the whole model.

    Raises:
        UnsupportedModelError: A layer has none, or more than one, or one that is not made of the
            outputs of the query heads; or not all are of one size.

    """
    found = {index: _output_projection(index, layer, heads) for index, layer in layers.items()}
    sizes = sorted({output.head_dim for output in found.values()})
    if len(sizes) > 1:
        raise UnsupportedModelError(f"the layers have heads of {' and '.join(map(str, sizes))}")
    return found


def query_heads(model_config: Any) -> int:
    """Query heads of the whole model."""
    return int(model_config.model_arch_config.total_num_attention_heads)


def _output_projection(index: int, layer: nn.Module, heads: int) -> OutputProjection:
    found = {
        name: module
        for name, module in layer.named_modules()
        if isinstance(module, RowParallelLinear) and _ATTENTION.search(name)
    }
    if len(found) != 1:
        raise UnsupportedModelError(
            f"attention heads need one output projection a layer; layer {index} has "
            f"{', '.join(found) or 'none'}"
        )
    [(name, module)] = found.items()
    columns = module.input_size
    if not heads or columns % heads:
        raise UnsupportedModelError(
            f"{name} of layer {index} has {columns} columns, which {heads} heads do not divide"
        )
    start = module.tp_rank * module.input_size_per_partition
    return OutputProjection(module, columns // heads, start)
