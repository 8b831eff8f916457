"""Strength of a balanced vector: the factor of each token row, and the curve of a law."""

import math
from typing import TYPE_CHECKING

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.loops import loops

if TYPE_CHECKING:
    from steersman_kernels.governor import State

_BLOCK = 128
"""Token rows whose factors are written at a time."""


@triton.jit  # type: ignore[untyped-decorator]
def _coefficients_kernel(  # type: ignore[no-untyped-def]
    coef_ptr,
    ints_ptr,
    floats_ptr,
    ends_ptr,
    strengths_ptr,
    slots_ptr,
    query_start_ptr,
    positions_ptr,
    BLOCK: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
    LAYOUT: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    slot = tl.load(slots_ptr + program).to(tl.int64)
    if slot < 0:
        return
    ints = ints_ptr + slot * at.INTS
    if tl.load(ints + at.LAW) == 0:
        return
    segments = tl.load(ints + at.SEGMENTS)
    base = tl.load(floats_ptr + slot * at.FLOATS + at.BASE)
    ends, strengths = ends_ptr + slot * at.SEGMENT_ENDS, strengths_ptr + slot * at.SEGMENT_ENDS
    first = tl.load(query_start_ptr + program)
    last = tl.load(query_start_ptr + program + 1)
    for begin in range(first, last, BLOCK):
        row = begin + tl.arange(0, BLOCK)
        inside = row < last
        position = tl.load(positions_ptr + row, mask=inside, other=0).to(tl.int32)
        # How many ends are not after the position, bit by bit.
        count = tl.full([BLOCK], 0, tl.int32)
        for bit in tl.static_range(BITS):
            more = count + (at.SEGMENT_ENDS >> bit)
            known = inside & (more <= segments)
            end = tl.load(ends + more - 1, mask=known, other=at.NEVER)
            count = tl.where(end <= position, more, count)
        strength = tl.load(strengths + count - 1, mask=inside & (count > 0), other=0.0)
        tl.store(coef_ptr + row, tl.where(count > 0, strength, base), mask=inside)


def coefficients(
    coef: Tensor, state: "State", slots: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """Write the factor of every token row of the batch, before the forward pass.

    1, but in the rows of requests with a LAW the strength of the last segment end at or before the
    row's position, and BASE before the first: what the row had, or would have had, when its token
    was drawn. Which rows are steered at all is decided elsewhere.

    On a GPU these are a fill and one launch over `slots.shape[0]` programs, with no transfer.

    Args:
        coef: `[>= tokens]`, float32; the whole buffer is overwritten.
        state: The table.
        slots: `[num_requests]`, int32: row of the table in batch order; -1 for a request without.
        query_start: `[> num_requests]`, int32: first token row of each request, from 0, and the
            end of the last.
        positions: `[>= tokens]`, int64, below NEVER.

    """
    run = coefficients_triton if coef.is_cuda else loops("strength").coefficients
    run(coef, state, slots, query_start, positions)


def coefficients_triton(
    coef: Tensor, state: "State", slots: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """`coefficients` by the kernel, whatever the device of its tensors."""
    coef.fill_(1.0)
    if slots.shape[0] == 0:
        return
    _coefficients_kernel[(slots.shape[0],)](
        coef,
        state.ints,
        state.floats,
        state.ends,
        state.strengths,
        slots,
        query_start,
        positions,
        BLOCK=_BLOCK,
        BITS=at.SEGMENT_ENDS.bit_length(),
        LAYOUT=at.FINGERPRINT,
        num_warps=1,
    )


def steepness(low: float, high: float, overshoot: float = 0.01) -> float:
    """The steepness k at which full confidence gives `-overshoot` times the base strength.

    The curve of the confidence law is `(1 - tanh(k (c - m)) / tanh(k s)) / 2` times the base, with
    m and s the middle and the half width of `low` to `high`: 1 at `low`, 0 at `high`. The steeper,
    the less is left for it to fall beyond `high`, so k solves
    `tanh(k (1 - m)) / tanh(k s) = 1 + 2 overshoot`.

    Args:
        low: Mean top probability at which the strength is the base.
        high: Confidence at which it is 0.
        overshoot: How far below 0 the curve ends, as a share of the base.

    Returns:
        k > 0. If `high` is so near to 1 that even a straight line ends above `-overshoot`: the k of
        a curve that is as good as a straight line, which comes nearest.

    Raises:
        ValueError: Unless `0 <= low < high <= 1` and `overshoot > 0`.

    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"a confidence from {low} to {high}: not 0 <= low < high <= 1")
    if not overshoot > 0:
        raise ValueError(f"an overshoot of {overshoot}: not above 0")
    middle, half = (low + high) / 2, (high - low) / 2
    # Below the least k s the tanh is straight to float32; above the most it is flat to float64.
    least, most = 0.01 / half, 20 / half

    def ratio(k: float) -> float:
        return math.tanh(k * (1 - middle)) / math.tanh(k * half)

    if ratio(least) <= 1 + 2 * overshoot:
        return least
    # The ratio falls from (1 - m) / s to 1 as k rises.
    for _ in range(100):
        k = (least + most) / 2
        least, most = (k, most) if ratio(k) > 1 + 2 * overshoot else (least, k)
    return k
