"""The governor's kernels on a GPU: a launch a step, a program a request."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from steersman_kernels import governed as at
from steersman_kernels.governed import State, Vocabulary
from steersman_kernels.lanes import LANES

_THREADS = 128
"""Of a program that reads a row of logits."""

# A kernel may read a module's attributes, but Triton does not see that one has changed since it
# put the compiled kernel into its cache. So every kernel takes them all as one constant.
_LAYOUT = str(sorted((name, value) for name, value in vars(at).items() if isinstance(value, int)))


@triton.jit
def _add(one, other):  # type: ignore[no-untyped-def]
    return one + other


@triton.jit
def _any(found):  # type: ignore[no-untyped-def]
    return tl.reduce(found.to(tl.int32), 0, _add) > 0


@triton.jit
def _completes(marker_ptr, length, recent, seen, drawn):  # type: ignore[no-untyped-def]
    """True if the last tokens and the drawn one make the marker."""
    lane = tl.arange(0, at.MARKER_TOKENS)
    marker = tl.load(marker_ptr + lane, mask=lane < length, other=-1)
    before = (seen - length + 1 + lane) & (at.HISTORY - 1)
    token = tl.load(recent + before, mask=lane < length - 1, other=-1)
    token = tl.where(lane == length - 1, drawn, token)
    differs = (lane < length) & (token != marker)
    return (length > 0) & (seen >= length - 1) & ~_any(differs)


@triton.jit
def _among(ids_ptr, count, token):  # type: ignore[no-untyped-def]
    found = token != token
    for index in range(count):
        found = found | (token == tl.load(ids_ptr + index))
    return found


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    shrunk = tl.exp(-2.0 * tl.abs(x))
    value = (1.0 - shrunk) / (1.0 + shrunk)
    return tl.where(x < 0, -value, value)


@triton.jit
def _within(floats, strength):  # type: ignore[no-untyped-def]
    """A strength kept within the bounds; the base for one that is no number."""
    low, high = tl.load(floats + at.LOW), tl.load(floats + at.HIGH)
    bounded = tl.minimum(tl.maximum(strength, low), high)
    return tl.where(strength == strength, bounded, tl.load(floats + at.BASE))


@triton.jit
def _proportional(floats, mean):  # type: ignore[no-untyped-def]
    """The strength after a segment of this mean entropy, and the sum of the errors."""
    low, high = tl.load(floats + at.LOW), tl.load(floats + at.HIGH)
    integral_gain = tl.load(floats + at.INTEGRAL_GAIN)
    before = tl.load(floats + at.ERROR)
    error = mean - tl.load(floats + at.TARGET)
    push = integral_gain * error
    wanted = tl.load(floats + at.BASE) + tl.load(floats + at.GAIN) * error
    wanted += integral_gain * (before + error)
    wound = ((wanted > high) & (push > 0)) | ((wanted < low) & (push < 0))
    finite = tl.abs(error) < float("inf")
    strength = _within(floats, tl.where(finite, wanted, float("nan")))
    return strength, tl.where(wound | ~finite, before, before + error)


@triton.jit
def _confidence(floats, mean):  # type: ignore[no-untyped-def]
    """The strength after a segment of this mean confidence."""
    bottom, top = tl.load(floats + at.CONFIDENCE_LOW), tl.load(floats + at.CONFIDENCE_HIGH)
    low, high = tl.load(floats + at.LOW), tl.load(floats + at.HIGH)
    steep = tl.load(floats + at.STEEPNESS)
    step = mean - tl.load(floats + at.CONFIDENCE)
    variance = tl.where(step == step, step * step / 4, 0.0)
    ratio = _tanh(steep * (mean - (bottom + top) / 2)) / _tanh(steep * (top - bottom) / 2)
    strength = _within(floats, tl.load(floats + at.BASE) * (1.0 - ratio) / 2)
    underthinks = (mean > top) & (variance < tl.load(floats + at.VARIANCE_LOW))
    overthinks = (mean < bottom) & (variance > tl.load(floats + at.VARIANCE_HIGH))
    return tl.where(overthinks, high, tl.where(underthinks, low, strength))


# One warp a program, so that a number that it reads and later replaces needs no barrier between.
# It reads one logit a row, so how rows are aligned makes no other kernel.
@triton.jit(do_not_specialize=["logits_stride", "logits_size"])  # type: ignore[untyped-decorator]
def _govern_kernel(  # type: ignore[no-untyped-def]
    ints_ptr,
    floats_ptr,
    recent_ptr,
    runs_ptr,
    window_ptr,
    nudge_ptr,
    stops_ptr,
    ends_ptr,
    strengths_ptr,
    start_ptr,
    start_length,
    end_ptr,
    end_length,
    implicit_ptr,
    implicit_count,
    closing_ptr,
    closing_length,
    boundary_ptr,
    vocabulary,
    seats_ptr,
    positions_ptr,
    rows_ptr,
    sampled_ptr,
    logits_ptr,
    logits_stride,
    logits_size,
    logit_rows_ptr,
    statistics_ptr,
    track_ptr,
    LAYOUT: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0).to(tl.int64)
    seat = tl.load(seats_ptr + program).to(tl.int64)
    ints, floats = ints_ptr + seat * at.INTS, floats_ptr + seat * at.FLOATS
    recent, runs = recent_ptr + seat * at.HISTORY, runs_ptr + seat * at.HISTORY
    window = window_ptr + seat * at.WINDOW_TOKENS
    track = track_ptr + program * at.TRACK
    position = tl.load(positions_ptr + program) + 1
    if position < tl.load(ints + at.KNOWN):
        column = tl.arange(0, 8)
        tl.store(track + column, float("nan"), mask=column < at.TRACK)
        return

    row = tl.load(rows_ptr + program).to(tl.int64)
    drawn = tl.load(sampled_ptr + row).to(tl.int32)
    measured = statistics_ptr + program * at.STATISTICS
    entropy, top = tl.load(measured + at.ENTROPY), tl.load(measured + at.TOP)
    phase, thought = tl.load(ints + at.PHASE), tl.load(ints + at.THOUGHT)
    seen = tl.load(ints + at.SEEN)
    before, inside = phase == at.BEFORE, phase == at.THINKING
    sequence = tl.load(ints + at.SEQUENCE)
    free = sequence == 0

    # What the drawn token would be. A marker that opens what the prompt had opened is no thought.
    beginning = free & inside & (thought == 0) & (seen < start_length)
    again = beginning & (tl.load(start_ptr + seen, mask=beginning, other=-1) == drawn)
    thought = tl.where(beginning & ~again, seen, thought)
    opened = before & _completes(start_ptr, start_length, recent, seen, drawn)
    able = (before | inside) & ~opened & ~again
    marked = able & _completes(end_ptr, end_length, recent, seen, drawn)
    called = able & _among(implicit_ptr, implicit_count, drawn)
    stop = tl.arange(0, at.STOP_TOKENS)
    stop_token = tl.load(stops_ptr + seat * at.STOP_TOKENS + stop)
    stopping = _any((stop_token == drawn) & (stop < tl.load(ints + at.STOPS)))

    # Why thinking must be closed, if it must. Both rings are read and written by the same lanes.
    minimum = tl.load(ints + at.MINIMUM)
    budget, grace = tl.load(ints + at.BUDGET).to(tl.int64), tl.load(ints + at.GRACE)
    ended = (tl.load(ints + at.ENDED) != 0) & (thought > 0)
    spent = (thought >= budget) & (ended | (thought >= budget + grace))
    late = position >= tl.load(ints + at.LATEST)
    looking = tl.load(ints + at.LOOP) != 0
    lane = tl.arange(0, at.HISTORY)
    period = ((seen - 1 - lane) & (at.HISTORY - 1)) + 1
    kept = tl.where(looking, at.HISTORY, 0)
    run = tl.load(runs + period - 1, mask=period <= kept, other=0)
    long = tl.maximum(period * (at.LOOP_REPEATS - 1), at.LOOP_TOKENS)
    looping = (thought > 0) & looking & _any(run >= long)
    width = tl.load(ints + at.WINDOW)
    slot = tl.arange(0, at.WINDOW_TOKENS)
    age = (thought - 1 - slot) & (at.WINDOW_TOKENS - 1)
    total = tl.reduce(tl.load(window + slot, mask=age < width, other=0.0), 0, _add)
    sure = total < tl.load(floats + at.EXIT_BELOW) * width.to(tl.float32)
    sure = sure & ended & (width > 0) & (thought >= width)
    settled = ended & (tl.load(ints + at.SETTLED) != 0)
    reason = tl.where(sure, at.BY_ENTROPY, tl.where(settled, at.BY_CERTAINTY, 0))
    reason = tl.where(looping, at.BY_LOOP, reason)
    reason = tl.where(thought >= minimum, reason, 0)
    reason = tl.where(again, 0, reason)
    reason = tl.where(spent & ~again, at.BY_BUDGET, tl.where(late, at.BY_LENGTH, reason))

    # The final token.
    count, nudges = tl.load(ints + at.FORCED), tl.load(ints + at.NUDGES)
    closed_by = tl.load(ints + at.CLOSED_BY)
    governed = free & inside & (tl.load(ints + at.GOVERNED) != 0)
    closes = governed & (reason > 0)
    leaves = governed & ~closes & (stopping | marked | called)
    delayed = leaves & (thought < minimum) & (nudges > 0)
    halted = leaves & ~delayed & stopping
    natural = free & (marked | called) & ~closes & ~delayed & ~halted
    closed_by = tl.where(halted | (natural & inside), at.BY_MODEL, closed_by)
    closed_by = tl.where(closes, reason, closed_by)
    closing = closes | halted | (sequence == at.CLOSING)
    nudged = delayed | (sequence == at.NUDGE)
    token = tl.load(closing_ptr + count, mask=closing, other=0)
    token += tl.load(nudge_ptr + seat * at.NUDGE_TOKENS + count, mask=nudged, other=0)
    token = tl.where(closing | nudged, token, drawn)
    going = (closing | nudged) & (count + 1 < tl.where(closing, closing_length, nudges))

    # What it changes.
    again = again & ~closing & ~nudged
    counted = inside & ~closing & ~natural & ~again
    kept_at = tl.where(again, seen, thought)
    last = natural | (closing & ~going)
    fresh = lane == (seen & (at.HISTORY - 1))
    old = tl.load(recent + lane, mask=period <= kept, other=-1)
    run = tl.where((old == token) & (period <= kept_at), run + 1, 0)
    tl.store(runs + period - 1, run, mask=period <= tl.where(counted | again, kept, 0))
    tl.store(recent + lane, tl.full([at.HISTORY], 0, tl.int32) + token, mask=fresh)
    taken = slot == tl.where(counted | again, kept_at & (at.WINDOW_TOKENS - 1), -1)
    tl.store(window + slot, tl.full([at.WINDOW_TOKENS], 0.0, tl.float32) + entropy, mask=taken)
    marker_tokens = tl.maximum(end_length - 1, 0)
    thought = tl.where(natural & marked, tl.maximum(thought - marker_tokens, 0), thought)
    known = (token >= 0) & (token < vocabulary)
    ends_here = tl.load(boundary_ptr + token, mask=known, other=0) != 0
    answering = (phase == at.ANSWER) | (natural & ~marked)
    answered = tl.load(ints + at.ANSWERED) + answering.to(tl.int32)
    phase = tl.where(opened, at.THINKING, tl.where(last, at.ANSWER, phase))
    tl.store(ints + at.PHASE, phase)
    tl.store(ints + at.THOUGHT, thought + counted.to(tl.int32))
    tl.store(ints + at.ANSWERED, answered)
    tl.store(ints + at.SEQUENCE, tl.where(going, tl.where(closing, at.CLOSING, at.NUDGE), 0))
    tl.store(ints + at.FORCED, tl.where(going, count + 1, 0))
    tl.store(ints + at.CLOSED_BY, closed_by)
    tl.store(ints + at.ENDED, ends_here.to(tl.int32))
    tl.store(ints + at.SEEN, seen + 1)

    # The law.
    strength = tl.load(floats + at.STRENGTH)
    law = tl.load(ints + at.LAW)
    segments = tl.load(ints + at.SEGMENTS)
    if counted & (law != 0) & (segments < at.SEGMENT_ENDS):
        tokens = tl.load(ints + at.SEGMENT)
        nats, certainty = tl.load(floats + at.ENTROPY_SUM), tl.load(floats + at.CONFIDENCE_SUM)
        if not ends_here:
            tl.store(ints + at.SEGMENT, tokens + 1)
            tl.store(floats + at.ENTROPY_SUM, nats + entropy)
            tl.store(floats + at.CONFIDENCE_SUM, certainty + top)
        elif tokens > 0:
            mean = certainty / tokens
            if law == at.PROPORTIONAL:
                strength, error = _proportional(floats, nats / tokens)
                tl.store(floats + at.ERROR, error)
            else:
                strength = _confidence(floats, mean)
            end = seat * at.SEGMENT_ENDS + segments
            tl.store(ends_ptr + end, position.to(tl.int32))
            tl.store(strengths_ptr + end, strength)
            tl.store(ints + at.SEGMENTS, segments + 1)
            tl.store(ints + at.SEGMENT, 0)
            tl.store(floats + at.ENTROPY_SUM, 0.0)
            tl.store(floats + at.CONFIDENCE_SUM, 0.0)
            tl.store(floats + at.CONFIDENCE, mean)
            tl.store(floats + at.STRENGTH, strength)

    tl.store(sampled_ptr + row, token)
    logit_row = logits_ptr + tl.load(logit_rows_ptr + program).to(tl.int64) * logits_stride
    known = (token >= 0) & (token < logits_size)
    logit = tl.load(logit_row + token, mask=known, other=float("nan")).to(tl.float32)
    tl.store(track + at.T_ENTROPY, entropy)
    tl.store(track + at.T_LOGPROB, logit - tl.load(measured + at.LSE))
    tl.store(track + at.T_TOP, top)
    tl.store(track + at.T_STRENGTH, strength)
    tl.store(track + at.T_CLOSED_BY, closed_by.to(tl.float32))
    tl.store(track + at.T_FORCED, (closing | nudged).to(tl.float32))


@triton.jit  # type: ignore[untyped-decorator]
def _coefficients_kernel(  # type: ignore[no-untyped-def]
    coef_ptr,
    ints_ptr,
    floats_ptr,
    ends_ptr,
    strengths_ptr,
    seats_ptr,
    query_start_ptr,
    positions_ptr,
    BLOCK: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
    LAYOUT: tl.constexpr,  # noqa: N803
):
    request = tl.program_id(0)
    seat = tl.load(seats_ptr + request).to(tl.int64)
    if seat < 0:
        return
    ints = ints_ptr + seat * at.INTS
    if tl.load(ints + at.LAW) == 0:
        return
    segments = tl.load(ints + at.SEGMENTS)
    base = tl.load(floats_ptr + seat * at.FLOATS + at.BASE)
    ends, strengths = ends_ptr + seat * at.SEGMENT_ENDS, strengths_ptr + seat * at.SEGMENT_ENDS
    first = tl.load(query_start_ptr + request)
    last = tl.load(query_start_ptr + request + 1)
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


def govern_triton(
    state: State,
    vocabulary: Vocabulary,
    *,
    seats: Tensor,
    positions: Tensor,
    rows: Tensor,
    sampled: Tensor,
    logits: Tensor,
    logit_rows: Tensor,
    statistics: Tensor,
    track: Tensor,
) -> None:
    """`govern` by the kernel, whatever the device of its tensors."""
    if seats.shape[0] == 0:
        return
    _govern_kernel[(seats.shape[0],)](
        state.ints,
        state.floats,
        state.recent,
        state.runs,
        state.window,
        state.nudge,
        state.stops,
        state.ends,
        state.strengths,
        vocabulary.start,
        len(vocabulary.start),
        vocabulary.end,
        len(vocabulary.end),
        vocabulary.implicit,
        len(vocabulary.implicit),
        vocabulary.closing,
        len(vocabulary.closing),
        vocabulary.boundary,
        len(vocabulary.boundary),
        seats,
        positions,
        rows,
        sampled,
        logits,
        logits.stride(0),
        logits.shape[1],
        logit_rows,
        statistics,
        track,
        LAYOUT=_LAYOUT,
        num_warps=1,
    )


@triton.jit  # type: ignore[untyped-decorator]
def _forbid_stops_kernel(  # type: ignore[no-untyped-def]
    logits_ptr,
    logits_stride,
    logits_size,
    ints_ptr,
    stops_ptr,
    seats_ptr,
    rows_ptr,
    BLOCK: tl.constexpr,  # noqa: N803
    LAYOUT: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    seat = tl.load(seats_ptr + program).to(tl.int64)
    ints = ints_ptr + seat * at.INTS
    short = tl.load(ints + at.ANSWERED) < tl.load(ints + at.MIN_ANSWER)
    if (tl.load(ints + at.GOVERNED) == 0) | (tl.load(ints + at.PHASE) != at.ANSWER) | ~short:
        return
    row = logits_ptr + tl.load(rows_ptr + program).to(tl.int64) * logits_stride
    open_ones = tl.full([BLOCK], 0, tl.int32)
    for begin in range(0, logits_size, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        logit = tl.load(row + token, mask=token < logits_size, other=-float("inf"))
        open_ones += (logit.to(tl.float32) > -float("inf")).to(tl.int32)
    stop = tl.arange(0, at.STOP_TOKENS)
    stops = tl.load(ints + at.STOPS)
    token = tl.load(stops_ptr + seat * at.STOP_TOKENS + stop, mask=stop < stops, other=0)
    logit = tl.load(row + token, mask=stop < stops, other=-float("inf"))
    open_stops = tl.reduce((logit.to(tl.float32) > -float("inf")).to(tl.int32), 0, _add)
    masked = tl.where(tl.reduce(open_ones, 0, _add) > open_stops, stops, 0)
    tl.debug_barrier()  # all have read what is masked now
    nothing = tl.full([at.STOP_TOKENS], -float("inf"), tl.float32)
    tl.store(row + token, nothing, mask=stop < masked)


def forbid_stops_triton(logits: Tensor, state: State, seats: Tensor, rows: Tensor) -> None:
    """`forbid_stops` by the kernel, whatever the device of its tensors."""
    if seats.shape[0] == 0:
        return
    _forbid_stops_kernel[(seats.shape[0],)](
        logits,
        logits.stride(0),
        logits.shape[1],
        state.ints,
        state.stops,
        seats,
        rows,
        BLOCK=1024,
        LAYOUT=_LAYOUT,
        num_warps=_THREADS // LANES,
    )


def coefficients_triton(
    coef: Tensor, state: State, seats: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """`coefficients` by the kernel, whatever the device of its tensors."""
    coef.fill_(1.0)
    if seats.shape[0] == 0:
        return
    _coefficients_kernel[(seats.shape[0],)](
        coef,
        state.ints,
        state.floats,
        state.ends,
        state.strengths,
        seats,
        query_start,
        positions,
        BLOCK=128,
        BITS=at.SEGMENT_ENDS.bit_length(),
        LAYOUT=_LAYOUT,
        num_warps=1,
    )
