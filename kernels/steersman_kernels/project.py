"""Adding each token's edit to its output: a product of rank one, in place."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from steersman_kernels.loops import loops
from steersman_kernels.programs import BLOCK, WARPS, add


@triton.jit  # type: ignore[untyped-decorator]
def _project_kernel(  # type: ignore[no-untyped-def]
    output_ptr,
    output_stride,
    input_ptr,
    input_stride,
    read_ptr,
    read_stride,
    write_ptr,
    write_stride,
    bank_rows_ptr,
    coef_ptr,
    columns,
    size,
    BLOCK: tl.constexpr,  # noqa: N803
):
    row = tl.program_id(0).to(tl.int64)
    bank_row = tl.load(bank_rows_ptr + row).to(tl.int64)
    if bank_row < 0:
        return
    offset = tl.arange(0, BLOCK)
    products = tl.full([BLOCK], 0.0, tl.float32)
    for begin in range(0, columns, BLOCK):
        column = begin + offset
        inside = column < columns
        values = tl.load(input_ptr + row * input_stride + column, mask=inside, other=0.0)
        weights = tl.load(read_ptr + bank_row * read_stride + column, mask=inside, other=0.0)
        products += values.to(tl.float32) * weights.to(tl.float32)
    amount = tl.load(coef_ptr + row) * tl.reduce(products, 0, add)
    for begin in range(0, size, BLOCK):
        column = begin + offset
        inside = column < size
        place = output_ptr + row * output_stride + column
        output = tl.load(place, mask=inside).to(tl.float32)
        direction = tl.load(write_ptr + bank_row * write_stride + column, mask=inside)
        changed = tl.fma(direction.to(tl.float32), amount, output)
        tl.store(place, changed.to(output_ptr.dtype.element_ty), mask=inside)


def project(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, bank_rows: Tensor, coef: Tensor
) -> None:
    """Add `coef[t] * <read[r], inputs[t]> * write[r]` with `r = bank_rows[t]` to each `output[t]`.

    In place, for the rows whose bank row is not negative; the others keep their bits. Computed in
    float32 and rounded once. On a GPU it is one launch that depends on the shapes alone, so a CUDA
    graph can hold it while the contents of `bank_rows` and `coef` change.

    Args:
        output: `[tokens, size]`, bfloat16, float16 or float32; the last dimension contiguous.
        inputs: `[tokens, columns]`, any of these types; the last dimension contiguous.
        read: `[rows, columns]`, any of these types; the last dimension contiguous.
        write: `[rows, size]`, any of these types; the last dimension contiguous.
        bank_rows: `[>= tokens]`, int32, below `rows`; negative for a token that is not edited.
        coef: `[>= tokens]`, float32.

    Nothing is checked: a bank row of `rows` or more reads out of bounds.
    """
    if output.is_cuda:
        project_triton(output, inputs, read, write, bank_rows, coef)
    else:
        loops("rows").project(output, inputs, read, write, bank_rows, coef)


def project_triton(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, bank_rows: Tensor, coef: Tensor
) -> None:
    """`project` by the kernel, whatever the device of its tensors."""
    tokens, size = output.shape
    if tokens == 0:
        return
    _project_kernel[(tokens,)](
        output,
        output.stride(0),
        inputs,
        inputs.stride(0),
        read,
        read.stride(0),
        write,
        write.stride(0),
        bank_rows,
        coef,
        inputs.shape[1],
        size,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
