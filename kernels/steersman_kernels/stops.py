"""Masking the tokens that end a response while its answer is too short."""

from typing import TYPE_CHECKING

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.loops import loops
from steersman_kernels.programs import BLOCK, WARPS, add

if TYPE_CHECKING:
    from steersman_kernels.governor import State


@triton.jit
def _short(ints):  # type: ignore[no-untyped-def]
    answering = (tl.load(ints + at.GOVERNED) != 0) & (tl.load(ints + at.PHASE) == at.ANSWER)
    return answering & (tl.load(ints + at.ANSWERED) < tl.load(ints + at.MIN_ANSWER))


@triton.jit
def _open(logits):  # type: ignore[no-untyped-def]
    return (logits.to(tl.float32) > -float("inf")).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator]
def _forbid_stops_kernel(  # type: ignore[no-untyped-def]
    logits_ptr,
    logits_stride,
    logits_size,
    ints_ptr,
    stops_ptr,
    slots_ptr,
    rows_ptr,
    BLOCK: tl.constexpr,  # noqa: N803
    LAYOUT: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    slot = tl.load(slots_ptr + program).to(tl.int64)
    ints = ints_ptr + slot * at.INTS
    if not _short(ints):
        return
    row = logits_ptr + tl.load(rows_ptr + program).to(tl.int64) * logits_stride
    open_ones = tl.full([BLOCK], 0, tl.int32)
    for begin in range(0, logits_size, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        open_ones += _open(tl.load(row + token, mask=token < logits_size, other=-float("inf")))
    stop = tl.arange(0, at.STOP_TOKENS)
    stops = tl.load(ints + at.STOPS)
    token = tl.load(stops_ptr + slot * at.STOP_TOKENS + stop, mask=stop < stops, other=0)
    open_stops = _open(tl.load(row + token, mask=stop < stops, other=-float("inf")))
    only_stops = tl.reduce(open_ones, 0, add) <= tl.reduce(open_stops, 0, add)
    tl.debug_barrier()  # all have read what is masked now
    nothing = tl.full([at.STOP_TOKENS], -float("inf"), tl.float32)
    tl.store(row + token, nothing, mask=stop < tl.where(only_stops, 0, stops))


def forbid_stops(logits: Tensor, state: "State", slots: Tensor, rows: Tensor) -> None:
    """Mask the tokens that end a response where the answer is still too short, before sampling.

    With -inf, in the rows of governed requests in the phase ANSWER that have ANSWERED less than
    MIN_ANSWER; not where all other tokens are masked already, as by a grammar that is at its end.
    In place and without a transfer on any device.

    Args:
        logits: `[any, vocabulary]`, bfloat16, float16 or float32; the last dimension contiguous.
        state: The table; its STOPS `stops` are the tokens meant.
        slots: `[n]`, int32: the watched requests of the step.
        rows: `[n]`, int32 or int64: their rows of `logits`, none twice.

    """
    run = forbid_stops_triton if logits.is_cuda else loops("stops").forbid_stops
    run(logits, state, slots, rows)


def forbid_stops_triton(logits: Tensor, state: "State", slots: Tensor, rows: Tensor) -> None:
    """`forbid_stops` by the kernel, whatever the device of its tensors."""
    if slots.shape[0] == 0:
        return
    _forbid_stops_kernel[(slots.shape[0],)](
        logits,
        logits.stride(0),
        logits.shape[1],
        state.ints,
        state.stops,
        slots,
        rows,
        BLOCK=BLOCK,
        LAYOUT=at.FINGERPRINT,
        num_warps=WARPS,
    )
