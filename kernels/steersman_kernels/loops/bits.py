"""Additions to numba's loops: arrays at an address, `in`, and bfloat16, which travels as int16."""

from typing import Any

import numba  # type: ignore[import-untyped]
import numpy as np
import torch
from numba.extending import intrinsic, overload  # type: ignore[import-untyped]
from numpy.typing import NDArray

from steersman_kernels.loops.compiled import njit

_ONE = np.int32(1)
_BELOW_HALF = np.int32(0x7FFF)
_NAN = np.int16(0x7FC0)

ELEMENTS = {torch.float32: np.float32, torch.bfloat16: np.int16}
"""The types that the loops read and write, with NumPy's own."""


@intrinsic  # type: ignore[untyped-decorator]
def pointer(context: Any, address: Any) -> Any:
    """An address in the form that `numba.carray` takes."""

    def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return numba.types.voidptr(address), cast


def value(bits: np.float32 | np.int16) -> np.float32:
    """A float32, or one of which only the upper half is there."""
    raise NotImplementedError(bits)


@overload(value, strict=False)  # type: ignore[untyped-decorator]
def _value(bits: Any) -> Any:
    if isinstance(bits, numba.types.Float):
        return lambda bits: bits
    return lambda bits: np.int32(np.int32(bits) << 16).view(np.float32)


def rounded(number: np.float32, like: np.float32 | np.int16) -> np.float32 | np.int16:
    """A float32 in the type of `like`: what `value` reads, rounded to the nearest, ties to even."""
    raise NotImplementedError(number, like)


@overload(rounded, strict=False)  # type: ignore[untyped-decorator]
def _rounded(number: Any, like: Any) -> Any:
    if isinstance(like, numba.types.Float):
        return lambda number, like: number

    def upper_half(number: Any, like: Any) -> Any:
        bits = np.float32(number).view(np.int32)
        odd = np.int32(np.int32(bits >> 16) & _ONE)
        up = np.int16(np.int32(np.int32(bits + _BELOW_HALF) + odd) >> 16)
        return up if number == number else _NAN

    return upper_half


@njit()
def among(ids: NDArray[np.int32], token: int) -> bool:
    """True if a token is one of these."""
    for one in ids:  # noqa: SIM110 - numba knows no generators here
        if one == token:
            return True
    return False
