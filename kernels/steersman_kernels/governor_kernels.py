"""The governor on a GPU: a launch a step, a program a request.

The functions have the names of those of the loops in `loops.governor`, which say what they are.
"""

from typing import TYPE_CHECKING

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from steersman_kernels import layout as at
from steersman_kernels.programs import add, among, any_of

if TYPE_CHECKING:
    from steersman_kernels.governor import State, Step
    from steersman_kernels.vocabulary import Vocabulary


@triton.jit
def _completes(marker_ptr, length, recent, seen, drawn):  # type: ignore[no-untyped-def]
    lane = tl.arange(0, at.MARKER_TOKENS)
    marker = tl.load(marker_ptr + lane, mask=lane < length, other=-1)
    before = (seen - length + 1 + lane) & (at.HISTORY - 1)
    token = tl.load(recent + before, mask=lane < length - 1, other=-1)
    token = tl.where(lane == length - 1, drawn, token)
    differs = (lane < length) & (token != marker)
    return (length > 0) & (seen >= length - 1) & ~any_of(differs)


@triton.jit
def _read(  # type: ignore[no-untyped-def]
    ints, recent, drawn, start_ptr, start_length, end_ptr, end_length, implicit_ptr, implicit_count
):
    phase, thought = tl.load(ints + at.PHASE), tl.load(ints + at.THOUGHT)
    seen = tl.load(ints + at.SEEN)
    inside = phase == at.THINKING
    free = tl.load(ints + at.SEQUENCE) == 0
    # A marker that opens what the prompt had opened is no thought.
    beginning = free & inside & (thought == 0) & (seen < start_length)
    again = beginning & (tl.load(start_ptr + seen, mask=beginning, other=-1) == drawn)
    thought = tl.where(beginning & ~again, seen, thought)
    opened = (phase == at.BEFORE) & _completes(start_ptr, start_length, recent, seen, drawn)
    able = ((phase == at.BEFORE) | inside) & ~opened & ~again
    marked = able & _completes(end_ptr, end_length, recent, seen, drawn)
    called = able & among(implicit_ptr, implicit_count, drawn)
    return thought, again, opened, marked, called


# A ring of HISTORY tokens is read and written by the same lanes: `_period` is how many tokens
# before the next one a lane's token is, and `_kept` up to which period the runs are kept.


@triton.jit
def _period(seen):  # type: ignore[no-untyped-def]
    return ((seen - 1 - tl.arange(0, at.HISTORY)) & (at.HISTORY - 1)) + 1


@triton.jit
def _kept(ints):  # type: ignore[no-untyped-def]
    return tl.where(tl.load(ints + at.LOOP) != 0, at.HISTORY, 0)


@triton.jit
def _loops(ints, runs):  # type: ignore[no-untyped-def]
    period = _period(tl.load(ints + at.SEEN))
    run = tl.load(runs + period - 1, mask=period <= _kept(ints), other=0)
    return any_of(run >= tl.maximum(period * (at.LOOP_REPEATS - 1), at.LOOP_TOKENS))


@triton.jit
def _total(window, thought, width):  # type: ignore[no-untyped-def]
    index = tl.arange(0, at.WINDOW_TOKENS)
    age = (thought - 1 - index) & (at.WINDOW_TOKENS - 1)
    return tl.reduce(tl.load(window + index, mask=age < width, other=0.0), 0, add)


@triton.jit
def _reason(ints, floats, runs, window, position, thought, again):  # type: ignore[no-untyped-def]
    budget, grace = tl.load(ints + at.BUDGET).to(tl.int64), tl.load(ints + at.GRACE)
    ended = (tl.load(ints + at.ENDED) != 0) & (thought > 0)
    spent = (thought >= budget) & (ended | (thought >= budget + grace))
    late = position >= tl.load(ints + at.LATEST)
    looping = (thought > 0) & (tl.load(ints + at.LOOP) != 0) & _loops(ints, runs)
    width = tl.load(ints + at.WINDOW)
    sure = _total(window, thought, width) < tl.load(floats + at.EXIT_BELOW) * width.to(tl.float32)
    sure = sure & ended & (width > 0) & (thought >= width)
    settled = ended & (tl.load(ints + at.SETTLED) != 0)
    reason = tl.where(sure, at.BY_ENTROPY, tl.where(settled, at.BY_CERTAINTY, 0))
    reason = tl.where(looping, at.BY_LOOP, reason)
    reason = tl.where(again | (thought < tl.load(ints + at.MINIMUM)), 0, reason)
    return tl.where(spent & ~again, at.BY_BUDGET, tl.where(late, at.BY_LENGTH, reason))


@triton.jit
def _decide(  # type: ignore[no-untyped-def]
    ints, floats, runs, window, stops, position, drawn, thought, again, closing
):
    sequence = tl.load(ints + at.SEQUENCE)
    index = tl.arange(0, at.STOP_TOKENS)
    stop = any_of((tl.load(stops + index) == drawn) & (index < tl.load(ints + at.STOPS)))
    governed = (sequence == 0) & (tl.load(ints + at.PHASE) == at.THINKING)
    governed = governed & (tl.load(ints + at.GOVERNED) != 0)
    reason = _reason(ints, floats, runs, window, position, thought, again)
    reason = tl.where(governed, reason, 0)
    leaves = governed & (reason == 0) & (stop | closing)
    early = (thought < tl.load(ints + at.MINIMUM)) & (tl.load(ints + at.NUDGES) > 0)
    halted = leaves & ~early & stop
    kind = tl.where((reason > 0) | halted, at.CLOSING, sequence)
    kind = tl.where(leaves & early, at.NUDGE, kind)
    return kind, tl.where(halted, at.BY_MODEL, reason)


@triton.jit
def _force(ints, kind, closing_length):  # type: ignore[no-untyped-def]
    count = tl.load(ints + at.FORCED)
    length = tl.where(kind == at.CLOSING, closing_length, tl.load(ints + at.NUDGES))
    going = (kind != 0) & (count + 1 < length)
    tl.store(ints + at.SEQUENCE, tl.where(going, kind, 0))
    tl.store(ints + at.FORCED, tl.where(going, count + 1, 0))
    return going


@triton.jit
def _remember(ints, recent, runs, window, token, thought, entropy):  # type: ignore[no-untyped-def]
    seen, lane = tl.load(ints + at.SEEN), tl.arange(0, at.HISTORY)
    period, kept = _period(seen), _kept(ints)
    run = tl.load(runs + period - 1, mask=period <= kept, other=0)
    old = tl.load(recent + lane, mask=period <= kept, other=-1)
    run = tl.where((old == token) & (period <= thought), run + 1, 0)
    tl.store(runs + period - 1, run, mask=period <= tl.where(thought >= 0, kept, 0))
    fresh = lane == (seen & (at.HISTORY - 1))
    tl.store(recent + lane, tl.full([at.HISTORY], 0, tl.int32) + token, mask=fresh)
    tl.store(ints + at.SEEN, seen + 1)
    index = tl.arange(0, at.WINDOW_TOKENS)
    taken = index == tl.where(thought >= 0, thought & (at.WINDOW_TOKENS - 1), -1)
    tl.store(window + index, tl.full([at.WINDOW_TOKENS], 0.0, tl.float32) + entropy, mask=taken)


@triton.jit
def _within(floats, strength):  # type: ignore[no-untyped-def]
    low, high = tl.load(floats + at.LOW), tl.load(floats + at.HIGH)
    bounded = tl.minimum(tl.maximum(strength, low), high)
    return tl.where(strength == strength, bounded, tl.load(floats + at.BASE))


@triton.jit
def _proportional(floats, mean):  # type: ignore[no-untyped-def]
    low, high = tl.load(floats + at.LOW), tl.load(floats + at.HIGH)
    gain = tl.load(floats + at.INTEGRAL_GAIN)
    before = tl.load(floats + at.ERROR)
    error = mean - tl.load(floats + at.TARGET)
    push = gain * error
    wanted = tl.load(floats + at.BASE) + tl.load(floats + at.GAIN) * error
    wanted += gain * (before + error)
    wound = ((wanted > high) & (push > 0)) | ((wanted < low) & (push < 0))
    finite = tl.abs(error) < float("inf")
    tl.store(floats + at.ERROR, tl.where(wound | ~finite, before, before + error))
    return _within(floats, tl.where(finite, wanted, float("nan")))


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    shrunk = tl.exp(-2.0 * tl.abs(x))
    value = (1.0 - shrunk) / (1.0 + shrunk)
    return tl.where(x < 0, -value, value)


@triton.jit
def _confidence(floats, mean):  # type: ignore[no-untyped-def]
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


@triton.jit
def _steer(  # type: ignore[no-untyped-def]
    ints, floats, ends, strengths, position, entropy, top, ends_here
):
    segments, tokens = tl.load(ints + at.SEGMENTS), tl.load(ints + at.SEGMENT)
    nats, certainty = tl.load(floats + at.ENTROPY_SUM), tl.load(floats + at.CONFIDENCE_SUM)
    strength = tl.load(floats + at.STRENGTH)
    if segments < at.SEGMENT_ENDS:
        if not ends_here:
            tl.store(ints + at.SEGMENT, tokens + 1)
            tl.store(floats + at.ENTROPY_SUM, nats + entropy)
            tl.store(floats + at.CONFIDENCE_SUM, certainty + top)
        elif tokens > 0:
            mean = certainty / tokens
            if tl.load(ints + at.LAW) == at.PROPORTIONAL:
                strength = _proportional(floats, nats / tokens)
            else:
                strength = _confidence(floats, mean)
            tl.store(ends + segments, position.to(tl.int32))
            tl.store(strengths + segments, strength)
            tl.store(ints + at.SEGMENTS, segments + 1)
            tl.store(ints + at.SEGMENT, 0)
            tl.store(floats + at.STRENGTH, strength)
            tl.store(floats + at.CONFIDENCE, mean)
            tl.store(floats + at.ENTROPY_SUM, 0.0)
            tl.store(floats + at.CONFIDENCE_SUM, 0.0)
    return strength


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
    slots_ptr,
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
    slot = tl.load(slots_ptr + program).to(tl.int64)
    ints, floats = ints_ptr + slot * at.INTS, floats_ptr + slot * at.FLOATS
    recent, runs = recent_ptr + slot * at.HISTORY, runs_ptr + slot * at.HISTORY
    window, stops = window_ptr + slot * at.WINDOW_TOKENS, stops_ptr + slot * at.STOP_TOKENS
    track = track_ptr + program * at.TRACK
    position = tl.load(positions_ptr + program) + 1
    if position < tl.load(ints + at.KNOWN):
        column = tl.arange(0, 16)
        tl.store(track + column, float("nan"), mask=column < at.TRACK)
        return

    row = tl.load(rows_ptr + program).to(tl.int64)
    drawn = tl.load(sampled_ptr + row).to(tl.int32)
    measured = statistics_ptr + program * at.STATISTICS
    entropy, top = tl.load(measured + at.ENTROPY), tl.load(measured + at.TOP)
    phase, seen = tl.load(ints + at.PHASE), tl.load(ints + at.SEEN)
    thought, again, opened, marked, called = _read(
        ints,
        recent,
        drawn,
        start_ptr,
        start_length,
        end_ptr,
        end_length,
        implicit_ptr,
        implicit_count,
    )
    kind, reason = _decide(
        ints, floats, runs, window, stops, position, drawn, thought, again, marked | called
    )
    closed, forced = kind == at.CLOSING, kind != 0
    count = tl.load(ints + at.FORCED)
    token = tl.load(closing_ptr + count, mask=closed, other=0)
    nudge = nudge_ptr + slot * at.NUDGE_TOKENS
    token += tl.load(nudge + count, mask=kind == at.NUDGE, other=0)
    token = tl.where(forced, token, drawn)
    ended = (marked | called) & ~forced

    again = again & ~forced
    counted = (phase == at.THINKING) & ~closed & ~ended & ~again
    after = tl.where(counted, thought, tl.where(again, seen, -1))
    _remember(ints, recent, runs, window, token, after, entropy)
    going = _force(ints, kind, closing_length)
    reason = tl.where(ended & (phase == at.THINKING), at.BY_MODEL, reason)
    closed_by = tl.where(reason > 0, reason, tl.load(ints + at.CLOSED_BY))
    tl.store(ints + at.CLOSED_BY, closed_by)
    fewer = tl.maximum(thought - tl.maximum(end_length - 1, 0), 0)
    thought = tl.where(ended & marked, fewer, thought)
    tl.store(ints + at.THOUGHT, thought + counted.to(tl.int32))
    answering = (phase == at.ANSWER) | (ended & ~marked)
    tl.store(ints + at.ANSWERED, tl.load(ints + at.ANSWERED) + answering.to(tl.int32))
    last = ended | (closed & ~going)
    phase = tl.where(opened, at.THINKING, tl.where(last, at.ANSWER, phase))
    tl.store(ints + at.PHASE, phase)
    known = (token >= 0) & (token < vocabulary)
    ends_here = tl.load(boundary_ptr + token, mask=known, other=0) != 0
    tl.store(ints + at.ENDED, ends_here.to(tl.int32))
    strength = tl.load(floats + at.STRENGTH)
    if counted & (tl.load(ints + at.LAW) != 0):
        ends, strengths = ends_ptr + slot * at.SEGMENT_ENDS, strengths_ptr + slot * at.SEGMENT_ENDS
        strength = _steer(ints, floats, ends, strengths, position, entropy, top, ends_here)

    tl.store(sampled_ptr + row, token)
    logit_row = logits_ptr + tl.load(logit_rows_ptr + program).to(tl.int64) * logits_stride
    known = (token >= 0) & (token < logits_size)
    logit = tl.load(logit_row + token, mask=known, other=float("nan")).to(tl.float32)
    tl.store(track + at.T_ENTROPY, entropy)
    tl.store(track + at.T_LOGPROB, logit - tl.load(measured + at.LSE))
    tl.store(track + at.T_TOP, top)
    tl.store(track + at.T_PROCESSED_ENTROPY, float("nan"))
    tl.store(track + at.T_PROCESSED_LOGPROB, float("nan"))
    tl.store(track + at.T_CONFIDENCE, float("nan"))
    tl.store(track + at.T_STRENGTH, strength)
    tl.store(track + at.T_CLOSED_BY, closed_by.to(tl.float32))
    tl.store(track + at.T_FORCED, forced.to(tl.float32))


def govern_triton(state: "State", vocabulary: "Vocabulary", step: "Step") -> None:
    """`govern` by the kernel, whatever the device of its tensors."""
    if step.slots.shape[0] == 0:
        return
    _govern_kernel[(step.slots.shape[0],)](
        *state,
        *(part for tensor in vocabulary for part in (tensor, len(tensor))),
        step.slots,
        step.positions,
        step.rows,
        step.sampled,
        step.logits,
        step.logits.stride(0),
        step.logits.shape[1],
        step.logit_rows,
        step.statistics,
        step.track,
        LAYOUT=at.FINGERPRINT,
        num_warps=1,
    )
