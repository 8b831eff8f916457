"""The kernels on a machine without a GPU: interpreted, and compiled but not run."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from steersman_kernels import programs
from tests.interpreter import quicken


def interpreted(module: ModuleType) -> ModuleType:
    """A copy of a module whose kernels run in Triton's interpreter, on CPU tensors.

    `triton.jit` looks for the interpreter when it decorates, so the source runs once more.
    """
    quicken()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        # What several kernels share is interpreted too.
        patch.setitem(sys.modules, programs.__name__, _anew(programs))
        return _anew(module)


def _anew(module: ModuleType) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"interpreted_{module.__name__}", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, int]) -> dict[str, Any]:
    """Output of the compiler for a kernel for an H100 or H200, by stage.

    The interpreter lets pass what the compiler refuses.

    Args:
        kernel: A function under `triton.jit`.
        types: Its arguments in Triton's notation: `*fp32`, `i32`.
        constants: Its compile-time arguments.

    """
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    return dict(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm)


def bits(tensor: Tensor) -> Tensor:
    """The bits of floats, to tell zeros and NaNs apart: int16 or int32."""
    return tensor.view(torch.int32 if tensor.element_size() == 4 else torch.int16)
