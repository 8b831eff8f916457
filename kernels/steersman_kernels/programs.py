"""Parts of the programs of several kernels, and the width of a warp."""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

LANES = 64 if torch.version.hip else 32
"""Threads of a warp: what a program has of them decides how wide its loads are. AMD's accelerators
(CDNA) run 64 threads at a time, NVIDIA's GPUs 32."""

BLOCK = 1024
"""Numbers that a program reads at a time which goes through whole rows."""
WARPS = 128 // LANES
"""Of such a program: 8 numbers a thread are one load of 16 bytes in half precision."""


# Not `tl.sum`: Triton's interpreter cannot call what was compiled elsewhere.
@triton.jit
def add(one, other):  # type: ignore[no-untyped-def]
    """Sum, for `tl.reduce`."""
    return one + other


@triton.jit
def any_of(found):  # type: ignore[no-untyped-def]
    """True if one of a block is."""
    return tl.reduce(found.to(tl.int32), 0, add) > 0


@triton.jit
def among(ids_ptr, count, token):  # type: ignore[no-untyped-def]
    """True where a token is one of these."""
    found = token != token
    for index in range(count):
        found = found | (token == tl.load(ids_ptr + index))
    return found
