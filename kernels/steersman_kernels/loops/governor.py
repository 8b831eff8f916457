"""The governor on a CPU: its definition, a request at a time."""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels.governed import (
    ANSWER,
    ANSWERED,
    BASE,
    BEFORE,
    BUDGET,
    BY_BUDGET,
    BY_CERTAINTY,
    BY_ENTROPY,
    BY_LENGTH,
    BY_LOOP,
    BY_MODEL,
    CLOSED_BY,
    CLOSING,
    CONFIDENCE,
    CONFIDENCE_HIGH,
    CONFIDENCE_LOW,
    CONFIDENCE_SUM,
    ENDED,
    ENTROPY,
    ENTROPY_SUM,
    ERROR,
    EXIT_BELOW,
    FORCED,
    GAIN,
    GOVERNED,
    GRACE,
    HIGH,
    HISTORY,
    INTEGRAL_GAIN,
    KNOWN,
    LATEST,
    LAW,
    LOOP,
    LOOP_REPEATS,
    LOOP_TOKENS,
    LOW,
    MIN_ANSWER,
    MINIMUM,
    NUDGE,
    NUDGES,
    PHASE,
    PROPORTIONAL,
    SEEN,
    SEGMENT,
    SEGMENT_ENDS,
    SEGMENTS,
    SEQUENCE,
    SETTLED,
    STATISTICS,
    STEEPNESS,
    STOPS,
    STRENGTH,
    T_CLOSED_BY,
    T_ENTROPY,
    T_FORCED,
    T_STRENGTH,
    T_TOP,
    TARGET,
    THINKING,
    THOUGHT,
    TOP,
    VARIANCE_HIGH,
    VARIANCE_LOW,
    WINDOW,
    WINDOW_TOKENS,
    State,
    Vocabulary,
)
from steersman_kernels.loops.compiled import njit

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@njit()
def _completes(marker: Ints, recent: Ints, seen: int, drawn: int) -> bool:
    """True if the last tokens and the drawn one make the marker."""
    length = len(marker)
    if length == 0 or seen < length - 1 or marker[length - 1] != drawn:
        return False
    for place in range(length - 1):
        if recent[(seen - length + 1 + place) % HISTORY] != marker[place]:
            return False
    return True


@njit()
def _contains(tokens: Ints, token: int) -> bool:
    for one in tokens:  # noqa: SIM110 - numba knows no generators here
        if one == token:
            return True
    return False


@njit()
def _loops(runs: Ints) -> bool:
    """True if the last thinking tokens are a block that stands there often enough."""
    for period in range(1, HISTORY + 1):
        if runs[period - 1] >= max(period * (LOOP_REPEATS - 1), LOOP_TOKENS):
            return True
    return False


@njit()
def _mean(window: Floats, thought: int, width: int) -> float:
    """Mean entropy of the last `width` thinking tokens, nats."""
    total = 0.0
    for age in range(1, width + 1):
        total += window[(thought - age) % WINDOW_TOKENS]
    return total / width


@njit()
def _reason(ints: Ints, floats: Floats, runs: Ints, window: Floats, position: int) -> int:
    """Reason to close thinking by the token at `position`; 0 for none."""
    thought, budget = int(ints[THOUGHT]), int(ints[BUDGET])
    ended = ints[ENDED] != 0 and thought > 0
    if thought >= budget and (ended or thought >= budget + ints[GRACE]):
        return BY_BUDGET
    if position >= ints[LATEST]:
        return BY_LENGTH
    if thought == 0 or thought < ints[MINIMUM]:
        return 0
    if ints[LOOP] != 0 and _loops(runs):
        return BY_LOOP
    width = int(ints[WINDOW])
    if ended and 0 < width <= thought and _mean(window, thought, width) < floats[EXIT_BELOW]:
        return BY_ENTROPY
    return BY_CERTAINTY if ended and ints[SETTLED] != 0 else 0


@njit()
def _force(ints: Ints, kind: int, length: int) -> int:
    """Force the next token of a sequence of so many; its place there."""
    place = ints[FORCED]
    going = place + 1 < length
    ints[SEQUENCE] = kind if going else 0
    ints[FORCED] = place + 1 if going else 0
    return int(place)


@njit()
def _remember(ints: Ints, recent: Ints, runs: Ints, token: int, thought: int) -> None:
    """Take a token up into `recent`; into `runs` too if it comes after so many thinking tokens, and
    is not after -1."""
    seen = int(ints[SEEN])
    if thought >= 0 and ints[LOOP] != 0:
        for period in range(1, HISTORY + 1):
            # Only tokens of this thinking phase count, and all of these were thinking tokens.
            repeated = period <= thought and recent[(seen - period) % HISTORY] == token
            runs[period - 1] = runs[period - 1] + 1 if repeated else 0
    recent[seen % HISTORY] = token
    ints[SEEN] = seen + 1


@njit()
def _proportional(floats: Floats, entropy: float) -> float:
    """Strength after a segment: a PI controller whose sum stands still at a bound."""
    error = entropy - floats[TARGET]
    if not math.isfinite(error):
        return float(floats[BASE])
    push = floats[INTEGRAL_GAIN] * error
    wanted = floats[BASE] + floats[GAIN] * error + floats[INTEGRAL_GAIN] * (floats[ERROR] + error)
    if not (wanted > floats[HIGH] and push > 0) and not (wanted < floats[LOW] and push < 0):
        floats[ERROR] += error
    return float(_within(floats, wanted))


@njit()
def _within(floats: Floats, strength: float) -> float:
    """A strength kept within the bounds; the base for one that is no number."""
    if math.isnan(strength):
        return float(floats[BASE])
    return float(min(max(strength, floats[LOW]), floats[HIGH]))


@njit(error_model="numpy")
def _confidence(floats: Floats, confidence: float) -> float:
    """Strength after a segment, by its confidence and the variance over the last two."""
    low, high = floats[CONFIDENCE_LOW], floats[CONFIDENCE_HIGH]
    step = confidence - floats[CONFIDENCE]
    variance = 0.0 if math.isnan(step) else step * step / 4
    if confidence < low and variance > floats[VARIANCE_HIGH]:
        return float(floats[HIGH])
    if confidence > high and variance < floats[VARIANCE_LOW]:
        return float(floats[LOW])
    steep, middle, half = floats[STEEPNESS], (low + high) / 2, (high - low) / 2
    ratio = math.tanh(steep * (confidence - middle)) / math.tanh(steep * half)
    return float(_within(floats, floats[BASE] * (1 - ratio) / 2))


@njit()
def _steer(
    ints: Ints, floats: Floats, ends: Ints, strengths: Floats, measured: Floats, position: int
) -> None:
    """Take a thinking token up into its segment, or end the segment with it."""
    place = ints[SEGMENTS]
    if place == SEGMENT_ENDS:
        return  # a further strength could not be found again for what is read anew
    tokens = ints[SEGMENT]
    if ints[ENDED] == 0:
        ints[SEGMENT] = tokens + 1
        floats[ENTROPY_SUM] += measured[ENTROPY]
        floats[CONFIDENCE_SUM] += measured[TOP]
        return
    if tokens == 0:
        return
    confidence = floats[CONFIDENCE_SUM] / tokens
    if ints[LAW] == PROPORTIONAL:
        strength = _proportional(floats, floats[ENTROPY_SUM] / tokens)
    else:
        strength = _confidence(floats, confidence)
    ends[place], strengths[place] = position, strength
    ints[SEGMENTS], ints[SEGMENT] = place + 1, 0
    floats[STRENGTH], floats[CONFIDENCE] = strength, confidence
    floats[ENTROPY_SUM] = floats[CONFIDENCE_SUM] = 0


@njit()
def _advance(
    ints: Ints,
    floats: Floats,
    recent: Ints,
    runs: Ints,
    window: Floats,
    nudge: Ints,
    stops: Ints,
    ends: Ints,
    strengths: Floats,
    start: Ints,
    end: Ints,
    implicit: Ints,
    closing: Ints,
    boundary: NDArray[np.bool_],
    position: int,
    token: int,
    measured: Floats,
    given: bool,
) -> tuple[int, bool]:
    """Take the token at `position` up: the final token, and whether it was put there.

    A `given` token stays whatever was due; if it is what would have been put there, it was.
    """
    phase, thought, seen = ints[PHASE], int(ints[THOUGHT]), int(ints[SEEN])
    free = ints[SEQUENCE] == 0

    # What the drawn token would be. A marker that opens what the prompt had opened is no thought.
    beginning = free and phase == THINKING and thought == 0 and seen < len(start)
    again = beginning and start[seen] == token
    if beginning and not again:
        thought = seen
    opened = phase == BEFORE and _completes(start, recent, seen, token)
    marked = phase != ANSWER and not opened and not again and _completes(end, recent, seen, token)
    called = phase != ANSWER and not opened and not again and _contains(implicit, token)
    ints[THOUGHT] = thought

    # The final token.
    kind, reason = int(ints[SEQUENCE]), 0
    if free and phase == THINKING and ints[GOVERNED] != 0:
        reason = _reason(ints, floats, runs, window, position)
        if again:
            reason = BY_LENGTH if position >= ints[LATEST] else 0
        stop = _contains(stops[: ints[STOPS]], token)
        if reason != 0:
            kind = CLOSING
        elif (stop or marked or called) and thought < ints[MINIMUM] and ints[NUDGES] > 0:
            kind = NUDGE
        elif stop:
            kind, reason = CLOSING, BY_MODEL
    if kind != 0:
        put = closing[ints[FORCED]] if kind == CLOSING else nudge[ints[FORCED]]
        if given and put != token:
            kind = reason = ints[SEQUENCE] = ints[FORCED] = 0
        else:
            token = put
            _force(ints, kind, len(closing) if kind == CLOSING else ints[NUDGES])
    closed, forced = kind == CLOSING, kind != 0
    ended = (marked or called) and not forced
    if reason != 0:
        ints[CLOSED_BY] = reason
    elif ended and phase == THINKING:
        ints[CLOSED_BY] = BY_MODEL

    # What it changes.
    again = again and not forced
    counted = phase == THINKING and not closed and not ended and not again
    place = thought if counted else seen if again else -1
    _remember(ints, recent, runs, token, place)
    if place >= 0:
        window[place % WINDOW_TOKENS] = measured[ENTROPY]
    if counted:
        ints[THOUGHT] = thought + 1
    if ended and marked:
        ints[THOUGHT] = max(thought - max(len(end) - 1, 0), 0)
    if phase == ANSWER or (ended and not marked):
        ints[ANSWERED] += 1
    if opened:
        ints[PHASE] = THINKING
    elif ended or (closed and ints[SEQUENCE] == 0):
        ints[PHASE] = ANSWER
    ints[ENDED] = 0 <= token < len(boundary) and boundary[token]
    if counted and ints[LAW] != 0 and not given:
        _steer(ints, floats, ends, strengths, measured, position)
    return token, forced


@njit()
def _govern(
    all_ints: Ints,
    all_floats: Floats,
    recent: Ints,
    runs: Ints,
    window: Floats,
    nudge: Ints,
    stops: Ints,
    ends: Ints,
    strengths: Floats,
    start: Ints,
    end: Ints,
    implicit: Ints,
    closing: Ints,
    boundary: NDArray[np.bool_],
    seats: Ints,
    positions: NDArray[np.int64],
    rows: NDArray[np.int64],
    sampled: NDArray[np.int64],
    statistics: Floats,
    track: Floats,
) -> None:
    track[:] = np.nan
    for i in range(len(seats)):
        seat, row, position = seats[i], rows[i], positions[i] + 1
        ints, floats = all_ints[seat], all_floats[seat]
        if position < ints[KNOWN]:
            continue
        sampled[row], forced = _advance(
            ints,
            floats,
            recent[seat],
            runs[seat],
            window[seat],
            nudge[seat],
            stops[seat],
            ends[seat],
            strengths[seat],
            start,
            end,
            implicit,
            closing,
            boundary,
            position,
            sampled[row],
            statistics[i],
            False,
        )
        track[i, T_ENTROPY], track[i, T_TOP] = statistics[i, ENTROPY], statistics[i, TOP]
        track[i, T_STRENGTH] = floats[STRENGTH]
        track[i, T_CLOSED_BY] = ints[CLOSED_BY]
        track[i, T_FORCED] = forced


def govern(
    state: State,
    vocabulary: Vocabulary,
    *,
    seats: Tensor,
    positions: Tensor,
    rows: Tensor,
    sampled: Tensor,
    statistics: Tensor,
    track: Tensor,
) -> None:
    """Loop of `govern`, but for T_LOGPROB."""
    tokens = sampled.long()
    _govern(
        state.ints.numpy(),
        state.floats.numpy(),
        state.recent.numpy(),
        state.runs.numpy(),
        state.window.numpy(),
        state.nudge.numpy(),
        state.stops.numpy(),
        state.ends.numpy(),
        state.strengths.numpy(),
        vocabulary.start.numpy(),
        vocabulary.end.numpy(),
        vocabulary.implicit.numpy(),
        vocabulary.closing.numpy(),
        vocabulary.boundary.numpy(),
        seats.numpy(),
        positions.numpy(),
        rows.long().numpy(),
        tokens.numpy(),
        statistics.numpy(),
        track.numpy(),
    )
    if tokens is not sampled:
        sampled.copy_(tokens)


@njit()
def _replay(
    ints: Ints,
    floats: Floats,
    recent: Ints,
    runs: Ints,
    window: Floats,
    nudge: Ints,
    stops: Ints,
    start: Ints,
    end: Ints,
    implicit: Ints,
    closing: Ints,
    boundary: NDArray[np.bool_],
    position: int,
    tokens: Ints,
) -> None:
    nothing = np.full(STATISTICS, np.nan, np.float32)
    none, no_strength = np.zeros(0, np.int32), np.zeros(0, np.float32)
    for index in range(len(tokens)):
        _advance(
            ints,
            floats,
            recent,
            runs,
            window,
            nudge,
            stops,
            none,
            no_strength,
            start,
            end,
            implicit,
            closing,
            boundary,
            position + index,
            tokens[index],
            nothing,
            True,
        )


def replay(state: State, vocabulary: Vocabulary, position: int, tokens: Tensor) -> None:
    """`steersman_kernels.governor.replay`, compiled by numba."""
    _replay(
        state.ints.numpy()[0],
        state.floats.numpy()[0],
        state.recent.numpy()[0],
        state.runs.numpy()[0],
        state.window.numpy()[0],
        state.nudge.numpy()[0],
        state.stops.numpy()[0],
        vocabulary.start.numpy(),
        vocabulary.end.numpy(),
        vocabulary.implicit.numpy(),
        vocabulary.closing.numpy(),
        vocabulary.boundary.numpy(),
        position,
        tokens.numpy(),
    )


@njit()
def _coefficients(
    coef: Floats,
    ints: Ints,
    floats: Floats,
    ends: Ints,
    strengths: Floats,
    seats: Ints,
    query_start: Ints,
    positions: NDArray[np.int64],
) -> None:
    coef[:] = 1
    for request in range(len(seats)):
        seat = seats[request]
        if seat < 0 or ints[seat, LAW] == 0:
            continue
        known = ends[seat, : ints[seat, SEGMENTS]]
        for row in range(query_start[request], query_start[request + 1]):
            reached = np.searchsorted(known, positions[row], side="right")
            coef[row] = strengths[seat, reached - 1] if reached > 0 else floats[seat, BASE]


def coefficients(
    coef: Tensor, state: State, seats: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """Loop of `coefficients`."""
    _coefficients(
        coef.numpy(),
        state.ints.numpy(),
        state.floats.numpy(),
        state.ends.numpy(),
        state.strengths.numpy(),
        seats.numpy(),
        query_start.numpy(),
        positions.numpy(),
    )


@njit()
def _short(ints: Ints, seats: Ints) -> NDArray[np.int64]:
    found = np.empty(len(seats), np.int64)
    count = 0
    for i in range(len(seats)):
        state = ints[seats[i]]
        if state[GOVERNED] and state[PHASE] == ANSWER and state[ANSWERED] < state[MIN_ANSWER]:
            found[count] = i
            count += 1
    return found[:count]


def forbid_stops(logits: Tensor, state: State, seats: Tensor, rows: Tensor) -> None:
    """`steersman_kernels.governor.forbid_stops`, on a CPU."""
    for i in _short(state.ints.numpy(), seats.numpy()):
        row, seat = logits[rows[i]], seats[i]
        stops = state.stops[seat, : state.ints[seat, STOPS]].long()
        kept = row[stops]
        row[stops] = -math.inf
        if not (row > -math.inf).any():
            row[stops] = kept
