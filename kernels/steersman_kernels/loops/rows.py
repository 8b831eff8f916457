"""`steer` and `project` on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import numba  # type: ignore[import-untyped]
import numpy as np
import torch
from torch import Tensor

from steersman_kernels.loops.bits import ELEMENTS, pointer, rounded, value
from steersman_kernels.loops.compiled import njit
from steersman_kernels.reference import project_reference, steer_reference

# Tensors come as addresses: to make NumPy's view of one costs as much as to steer its rows.


@functools.cache
def _steer(element: type) -> Any:
    @njit(fastmath={"contract"}, error_model="numpy")
    def loop(
        hidden: int,
        hidden_stride: int,
        tokens: int,
        size: int,
        bank: int,
        bank_stride: int,
        bank_rows: int,
        coef: int,
    ) -> None:
        chosen = numba.carray(pointer(bank_rows), (tokens,), np.int32)
        factors = numba.carray(pointer(coef), (tokens,), np.float32)
        rows = numba.carray(pointer(hidden), (tokens, hidden_stride), element)
        for token in range(tokens):
            if chosen[token] < 0:
                continue
            row, factor = rows[token], factors[token]
            directions = numba.carray(pointer(bank), (chosen[token] + 1, bank_stride), element)
            direction = directions[chosen[token]]
            for column in range(size):
                steered = value(direction[column]) * factor + value(row[column])
                row[column] = rounded(steered, row[column])

    return loop


def steering(bank: Tensor, bank_rows: Tensor, coef: Tensor) -> Callable[[Tensor], None]:
    """`steer` from a bank that stays where it is: half of a call would be to find the same anew."""
    element = ELEMENTS.get(bank.dtype)
    loop = element and _steer(element)
    addresses = (bank.data_ptr(), bank.stride(0), bank_rows.data_ptr(), coef.data_ptr())

    def steer(hidden: Tensor) -> None:
        if loop is None or hidden.dtype != bank.dtype:
            steer_reference(hidden, bank, bank_rows, coef)
        else:
            loop(hidden.data_ptr(), hidden.stride(0), *hidden.shape, *addresses)

    return steer


@functools.cache
def _project(element: type) -> Any:
    @njit(fastmath={"contract", "reassoc"}, error_model="numpy")
    def loop(
        output: int,
        output_stride: int,
        tokens: int,
        size: int,
        inputs: int,
        inputs_stride: int,
        columns: int,
        read: int,
        read_stride: int,
        write: int,
        write_stride: int,
        bank_rows: int,
        coef: int,
    ) -> None:
        chosen = numba.carray(pointer(bank_rows), (tokens,), np.int32)
        factors = numba.carray(pointer(coef), (tokens,), np.float32)
        rows = numba.carray(pointer(output), (tokens, output_stride), element)
        sources = numba.carray(pointer(inputs), (tokens, inputs_stride), element)
        for token in range(tokens):
            index = chosen[token]
            if index < 0:
                continue
            row, source = rows[token], sources[token]
            weights = numba.carray(pointer(read), (index + 1, read_stride), np.float32)[index]
            direction = numba.carray(pointer(write), (index + 1, write_stride), np.float32)[index]
            product = np.float32(0)
            for column in range(columns):
                product += value(source[column]) * weights[column]
            amount = product * factors[token]
            for column in range(size):
                changed = direction[column] * amount + value(row[column])
                row[column] = rounded(changed, row[column])

    return loop


def project(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, bank_rows: Tensor, coef: Tensor
) -> None:
    """Loop of `project`."""
    element = ELEMENTS.get(output.dtype)
    known = inputs.dtype == output.dtype and read.dtype == write.dtype == torch.float32
    if element is None or not known:
        project_reference(output, inputs, read, write, bank_rows, coef)
        return
    _project(element)(
        output.data_ptr(),
        output.stride(0),
        *output.shape,
        inputs.data_ptr(),
        inputs.stride(0),
        inputs.shape[1],
        read.data_ptr(),
        read.stride(0),
        write.data_ptr(),
        write.stride(0),
        bank_rows.data_ptr(),
        coef.data_ptr(),
    )
