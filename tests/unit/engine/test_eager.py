"""The faster eager operations, against vLLM's own."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

from steersman.engine.compat.eager import hasten

# What two orders of rounding can differ by, relatively.
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 1 / 64}


@pytest.fixture(autouse=True)
def config() -> Iterator[None]:
    with set_current_vllm_config(VllmConfig()):
        yield


def norm(width: int, dtype: torch.dtype) -> RMSNorm:
    module = RMSNorm(width, eps=1e-6, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.randn(width))
    return module


def hastened(module: nn.Module, dtype: torch.dtype) -> bool:
    hasten(nn.Sequential(module), dtype)
    return "forward" in vars(module)


@torch.inference_mode()
def both(module: nn.Module, dtype: torch.dtype, *inputs: Tensor) -> tuple[object, object]:
    """Results of a module by vLLM's operations, and by the faster ones."""
    theirs = module(*(x.clone(memory_format=torch.preserve_format) for x in inputs))
    assert hastened(module, dtype)
    return theirs, module(*inputs)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_norms_are_those_of_vllm(dtype: torch.dtype) -> None:
    x, residual = torch.randn(2, 7, 96).to(dtype)
    theirs, ours = both(norm(96, dtype), dtype, x)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    theirs, ours = both(norm(96, dtype), dtype, x, residual)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def test_heads_cut_from_wider_rows_are_normed_rightly() -> None:
    heads = torch.randn(5, 400)[:, 64:256].view(5, 6, 32)
    theirs, ours = both(norm(32, torch.float32), torch.float32, heads)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_activations_are_those_of_vllm(dtype: torch.dtype) -> None:
    x = torch.randn(7, 2 * 40).to(dtype)
    theirs, ours = both(SiluAndMul(), dtype, x)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(lambda: RMSNorm(64, has_weight=False), id="no weight"),
        pytest.param(lambda: RMSNorm(64, var_hidden_size=32), id="variance of a part"),
        pytest.param(lambda: norm(64, torch.bfloat16), id="another type"),
        pytest.param(lambda: norm(60, torch.float32), id="no whole vectors"),
    ],
)
def test_other_norms_stay_as_they_are(module) -> None:
    assert not hastened(module(), torch.float32)
