"""Deciding, once per engine step, which token rows are steered and by which row of the bank."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.loops import loops
from steersman_kernels.programs import among
from steersman_kernels.vocabulary import Vocabulary


@triton.jit
def _earlier(one, other):  # type: ignore[no-untyped-def]
    return tl.minimum(one, other)


@triton.jit
def _completes(  # type: ignore[no-untyped-def]
    marker_ptr, length, row, position, first, origin, token_ids_ptr, state
):
    """Find the tokens that complete a marker, with those before them of this step or earlier."""
    found = row < row + length
    for age in range(length):
        wanted = tl.load(marker_ptr + length - 1 - age)
        here = found & (position - age >= origin)
        fresh = tl.load(token_ids_ptr + row - age, mask=here & (row - age >= first), other=-1)
        ring = (position - age) & (at.MARKER_TOKENS - 1)
        kept = tl.load(state + at.RECENT + ring, mask=here & (row - age < first), other=-1)
        found = here & (tl.where(row - age >= first, fresh.to(tl.int32), kept) == wanted)
    return found


@triton.jit  # type: ignore[untyped-decorator]
def _gate_kernel(  # type: ignore[no-untyped-def]
    requests_ptr,
    slots_ptr,
    query_start_ptr,
    positions_ptr,
    token_ids_ptr,
    boundary_ptr,
    vocabulary,
    start_ptr,
    start_length,
    end_ptr,
    end_length,
    implicit_ptr,
    implicit_count,
    bank_rows_ptr,
    BLOCK: tl.constexpr,  # noqa: N803
    LAYOUT: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    slot = tl.load(slots_ptr + program).to(tl.int64)
    if slot < 0:
        return
    state = requests_ptr + slot * at.WIDTH
    first = tl.load(query_start_ptr + program)
    last = tl.load(query_start_ptr + program + 1)
    origin = tl.load(state + at.ORIGIN)
    opened = tl.load(state + at.OPENED)
    closed = tl.load(state + at.CLOSED)
    lane = tl.arange(0, BLOCK)

    # The phases first: a marker counts for every row of the step.
    starts = tl.full([BLOCK], at.NEVER, tl.int32)
    ends = tl.full([BLOCK], at.NEVER, tl.int32)
    for begin in range(first, last, BLOCK):
        row = begin + lane
        inside = row < last
        position = tl.load(positions_ptr + row, mask=inside, other=0).to(tl.int32)
        token = tl.load(token_ids_ptr + row, mask=inside, other=-1)
        generated = inside & (position >= origin)
        begins = _completes(
            start_ptr, start_length, row, position, first, origin, token_ids_ptr, state
        )
        closes = _completes(
            end_ptr, end_length, row, position, first, origin, token_ids_ptr, state
        ) | among(implicit_ptr, implicit_count, token)
        starts = tl.minimum(starts, tl.where(generated & begins, position, at.NEVER))
        ends = tl.minimum(ends, tl.where(generated & closes, position, at.NEVER))
    opened = tl.minimum(opened, tl.reduce(starts, 0, _earlier))
    closed = tl.minimum(closed, tl.reduce(ends, 0, _earlier))
    tl.store(state + at.OPENED, opened)
    tl.store(state + at.CLOSED, closed)
    tl.debug_barrier()  # the tokens of earlier steps have been read

    for begin in range(first, last, BLOCK):
        row = begin + lane
        inside = row < last
        position = tl.load(positions_ptr + row, mask=inside, other=0).to(tl.int32)
        token = tl.load(token_ids_ptr + row, mask=inside, other=-1)
        known = (token >= 0) & (token < vocabulary)
        boundary = tl.load(boundary_ptr + token, mask=known, other=0) != 0
        thinking = (position >= opened) & (position < closed)
        part = tl.where(thinking, at.IN_THINKING, at.IN_ANSWER)
        part = tl.where(position < origin, at.IN_PROMPT, part)
        kind = 2 * part + boundary.to(tl.int32)
        chosen = tl.load(state + at.ROWS + kind, mask=inside, other=-1)
        tl.store(bank_rows_ptr + row, chosen, mask=inside)
        recent = inside & (position >= origin) & (row >= last - at.MARKER_TOKENS)
        ring = position & (at.MARKER_TOKENS - 1)
        tl.store(state + at.RECENT + ring, token.to(tl.int32), mask=recent)
        # Lanes share their counter. No other program has this slot, so nothing is to be ordered.
        tl.atomic_add(state + at.COUNTS + kind, 1, mask=inside & (chosen >= 0), sem="relaxed")


def gate(
    requests: Tensor,
    slots: Tensor,
    query_start: Tensor,
    positions: Tensor,
    token_ids: Tensor,
    vocabulary: Vocabulary,
    bank_rows: Tensor,
) -> None:
    """Write the bank row of every token row of the batch into `bank_rows`, -1 where none applies.

    The columns of `requests` and the classes of tokens are described in `layout`. For each
    request with a slot, first OPENED and CLOSED become the least position at which a generated row
    of the step completes a marker, if that is earlier; then each row gets the bank row of its
    class, and COUNTS the number of its rows that got one. Repeating a step changes counts only. The
    tokens before those of a step must have been in the steps before.

    On a GPU these are a fill and one launch over `slots.shape[0]` programs, with no transfer.

    Args:
        requests: `[capacity, WIDTH]`, int32, contiguous; changed in place.
        slots: `[num_requests]`, int32: row of `requests` in batch order, no slot twice; -1 for a
            request that is not steered.
        query_start: `[> num_requests]`, int32: first token row of each request, from 0, and the
            end of the last.
        positions: `[>= tokens]`, int64, below NEVER.
        token_ids: `[>= tokens]`, int32 or int64, the input tokens. One outside the vocabulary, as
            placeholders are, is neither a boundary nor a marker.
        vocabulary: Markers and boundaries, on the device of the other tensors.
        bank_rows: `[>= tokens]`, int32; the whole buffer is overwritten.

    Nothing is checked: an index out of range reads or writes out of bounds.
    """
    run = gate_triton if bank_rows.is_cuda else loops("gate").gate
    run(requests, slots, query_start, positions, token_ids, vocabulary, bank_rows)


def gate_triton(
    requests: Tensor,
    slots: Tensor,
    query_start: Tensor,
    positions: Tensor,
    token_ids: Tensor,
    vocabulary: Vocabulary,
    bank_rows: Tensor,
    *,
    block: int = 512,
) -> None:
    """`gate` by the kernel, whatever the device of its tensors; `block` token rows at a time."""
    bank_rows.fill_(-1)
    if slots.shape[0] == 0:
        return
    _gate_kernel[(slots.shape[0],)](
        requests,
        slots,
        query_start,
        positions,
        token_ids,
        vocabulary.boundary,
        len(vocabulary.boundary),
        vocabulary.start,
        len(vocabulary.start),
        vocabulary.end,
        len(vocabulary.end),
        vocabulary.implicit,
        len(vocabulary.implicit),
        bank_rows,
        BLOCK=block,
        LAYOUT=at.FINGERPRINT,
        num_warps=8,
    )
