"""Faster operations for an eager engine on a CPU.

Compiled, vLLM fuses them there; eagerly, each of its norms is half a dozen PyTorch operations, and
an activation two, which all write their whole output to new memory.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

_VECTOR = 32
"""Elements. vLLM's C operations want whole vectors; this is the widest that a CPU has."""


def hasten(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace how a model's norms and activations are computed, where that can be done.

    Args:
        model: As loaded.
        dtype: Of its residual stream.

    """
    for module in model.modules():
        if type(module) is SiluAndMul:
            module.forward = _silu_and_mul
        elif type(module) is RMSNorm and _is_plain(module, dtype):
            module.forward = partial(_norm, module)


def _is_plain(norm: Any, dtype: torch.dtype) -> bool:
    if not norm.has_weight or norm.variance_size_override is not None:
        return False
    return norm.weight.dtype == dtype and len(norm.weight) % _VECTOR == 0


def _norm(norm: Any, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """As `RMSNorm` does it: a residual stream has x added in place, and is returned as well."""
    weight, epsilon = norm.weight.data, norm.variance_epsilon
    x = x.contiguous()  # the operations do not look
    if residual is not None:
        torch.ops._C.fused_add_rms_norm(x, residual, weight, epsilon)
        return x, residual
    normed = torch.empty_like(x)
    torch.ops._C.rms_norm(normed, x, weight, epsilon)
    return normed


def _silu_and_mul(x: Tensor) -> Tensor:
    """SiLU of the first half of the columns times the second half, in the memory of the first."""
    gate, up = x.chunk(2, dim=-1)
    return functional.silu(gate, inplace=True).mul_(up)
