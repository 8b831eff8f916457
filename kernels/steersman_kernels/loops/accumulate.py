"""`accumulate` on a CPU."""

import functools
import math
from typing import Any

import numba  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels.loops.bits import ELEMENTS, pointer, value
from steersman_kernels.loops.compiled import njit
from steersman_kernels.reference import accumulate_reference

_ROWS = 64
"""Rows that are summed in float32 before float64 takes over."""


_njit = njit(fastmath={"contract", "reassoc"}, error_model="numpy")


@_njit
def _add(row: NDArray[Any], factor: np.float32, part: NDArray[np.float32]) -> np.float32:
    """Add a multiple of a row to a sum; returns the square of the row's norm."""
    square = np.float32(0)
    for j in range(len(part)):
        number = value(row[j])
        part[j] += factor * number
        square += number * number
    return square


@_njit
def _add_both(
    row: NDArray[Any], other: NDArray[Any], factor: np.float32, part: NDArray[np.float32]
) -> np.float32:
    """The same of the sum of two rows."""
    square = np.float32(0)
    for j in range(len(part)):
        number = value(row[j]) + value(other[j])
        part[j] += factor * number
        square += number * number
    return square


@functools.cache
def _loop(element: type) -> Any:
    @_njit
    def loop(
        hidden: int,
        hidden_stride: int,
        residual: int,
        residual_stride: int,
        tokens: int,
        size: int,
        rows: int,
        count: int,
        weights: int,
        sides: int,
        sums: int,
        norms: int,
        squares: int,
    ) -> None:
        ours = numba.carray(pointer(hidden), (tokens, hidden_stride), element)
        others = numba.carray(pointer(residual), (tokens, residual_stride), element)
        chosen = numba.carray(pointer(rows), (count,), np.int64)
        factors = numba.carray(pointer(weights), (sides, count), np.float32)
        totals = numba.carray(pointer(sums), (sides, size), np.float64)
        lengths = numba.carray(pointer(norms), (sides,), np.float64)
        areas = numba.carray(pointer(squares), (sides,), np.float64)
        part = np.zeros(size, np.float32)
        for side in range(sides):
            for start in range(0, count, _ROWS):
                part[:] = 0
                for i in range(start, min(start + _ROWS, count)):
                    factor = factors[side, i]
                    if factor == 0:
                        continue
                    row = ours[chosen[i]]
                    if residual == 0:
                        square = _add(row, factor, part)
                    else:
                        square = _add_both(row, others[chosen[i]], factor, part)
                    if norms != 0:
                        lengths[side] += factor * math.sqrt(square)
                        areas[side] += factor * square
                for j in range(size):
                    totals[side, j] += part[j]

    return loop


def accumulate(
    hidden: Tensor,
    residual: Tensor | None,
    rows: Tensor,
    weights: Tensor,
    sums: Tensor,
    moments: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Loop of `accumulate`."""
    element = ELEMENTS.get(hidden.dtype)
    if element is None or (residual is not None and residual.dtype != hidden.dtype):
        accumulate_reference(hidden, residual, rows, weights, sums, moments)
        return
    other = (0, 0) if residual is None else (residual.data_ptr(), residual.stride(0))
    norms, squares = (0, 0) if moments is None else map(Tensor.data_ptr, moments)
    _loop(element)(
        hidden.data_ptr(),
        hidden.stride(0),
        *other,
        *hidden.shape,
        rows.data_ptr(),
        len(rows),
        weights.data_ptr(),
        len(weights),
        sums.data_ptr(),
        norms,
        squares,
    )
