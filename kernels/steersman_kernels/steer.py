"""Adding each token's direction to its hidden state, in one pass and in place."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from steersman_kernels.loops import loops

# A program takes a whole row up to this size: the fewer programs, the cheaper the rows that only
# find that they are not steered.
_MAX_BLOCK = 4096
# Columns per warp: 16 a thread, two 16-byte loads in half precision.
_PER_WARP = 512


@triton.jit  # type: ignore[untyped-decorator]
def _steer_kernel(  # type: ignore[no-untyped-def]
    hidden_ptr,
    hidden_stride,
    bank_ptr,
    bank_stride,
    bank_rows_ptr,
    coef_ptr,
    size,
    BLOCK: tl.constexpr,  # noqa: N803
):
    row = tl.program_id(0).to(tl.int64)
    bank_row = tl.load(bank_rows_ptr + row).to(tl.int64)
    if bank_row < 0:
        return
    coef = tl.load(coef_ptr + row)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    place = hidden_ptr + row * hidden_stride + column
    hidden = tl.load(place, mask=inside).to(tl.float32)
    direction = tl.load(bank_ptr + bank_row * bank_stride + column, mask=inside).to(tl.float32)
    steered = tl.fma(direction, coef, hidden)
    tl.store(place, steered.to(hidden_ptr.dtype.element_ty), mask=inside)


def steer(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    """Add `coef[t] * bank[bank_rows[t]]` to each row `hidden[t]` whose bank row is not negative.

    In place. Computed in float32 and rounded once; the other rows keep their bits. On a GPU it is
    one launch that depends on the shape of `hidden` alone, so a CUDA graph can hold it while the
    contents of `bank_rows` and `coef` change.

    Args:
        hidden: `[tokens, size]`, bfloat16, float16 or float32; the last dimension contiguous.
        bank: `[rows, size]`, any of these types; the last dimension contiguous.
        bank_rows: `[>= tokens]`, int32, below `rows`; negative for a token that is not steered.
        coef: `[>= tokens]`, float32.

    Nothing is checked: a bank row of `rows` or more reads out of bounds.
    """
    if hidden.is_cuda:
        steer_triton(hidden, bank, bank_rows, coef)
    else:
        loops("rows").steering(bank, bank_rows, coef)(hidden)


def steer_triton(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    """`steer` by the kernel, whatever the device of its tensors."""
    tokens, size = hidden.shape
    if tokens == 0:
        return
    block = min(triton.next_power_of_2(size), _MAX_BLOCK)
    _steer_kernel[(tokens, triton.cdiv(size, block))](
        hidden,
        hidden.stride(0),
        bank,
        bank.stride(0),
        bank_rows,
        coef,
        size,
        BLOCK=block,
        num_warps=max(1, block // _PER_WARP),
    )
