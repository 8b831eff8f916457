"""The kernels on a CPU: loops that numba compiles at first use.

A batch is small beside what PyTorch needs to start an operation, and within a model's step each
start finds the caches cold: one call of a loop costs a fraction of what the same operations of
PyTorch do. They run on one thread.
"""

import functools
import importlib
from typing import Any


@functools.cache
def loops(name: str) -> Any:
    """A module of this package.

    It brings numba, and vLLM, which looks into all modules that are loaded when a worker starts,
    fails at those of numba's: it must not be loaded before.
    """
    return importlib.import_module(f"steersman_kernels.loops.{name}")
