"""Weighted sums over chosen rows of a residual stream."""

from torch import Tensor

from steersman_kernels.loops import loops
from steersman_kernels.reference import accumulate_reference


def accumulate(
    hidden: Tensor,
    residual: Tensor | None,
    rows: Tensor,
    weights: Tensor,
    sums: Tensor,
    moments: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Add weighted sums over rows of `hidden + residual` to the sums so far.

    The stream is added up in float32, its sums in float64 from one call to the next. On a GPU it is
    a few operations of PyTorch: nothing that is captured waits for it.

    Args:
        hidden: `[tokens, size]`, bfloat16, float16 or float32; the last dimension contiguous.
        residual: `[tokens, size]`, alike; None for nothing.
        rows: `[n]`, int64: which rows.
        weights: `[sides, n]`, float32, contiguous: a weight for each row on each side.
        sums: `[sides, size]`, float64, contiguous, in place: of the rows.
        moments: `[sides]` each, float64, in place: of the rows' norms, and of their squares; None
            if nobody needs them.

    """
    function = accumulate_reference if hidden.is_cuda else loops("accumulate").accumulate
    function(hidden, residual, rows, weights, sums, moments)
