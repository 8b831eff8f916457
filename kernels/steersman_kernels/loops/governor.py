"""The governor on a CPU: its definition, a request at a time.

A `request` is the `State` of one request, its rows as NumPy's arrays; `words` is a `Vocabulary` of
such arrays. The functions have the names of those of the kernels in `governor_kernels`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.governor import State, Step
from steersman_kernels.loops.bits import among
from steersman_kernels.loops.compiled import njit
from steersman_kernels.loops.entropy import logprobs
from steersman_kernels.vocabulary import Vocabulary

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@njit()
def _completes(marker: Ints, recent: Ints, seen: int, drawn: int) -> bool:
    """True if the last tokens and the drawn one make the marker."""
    length = len(marker)
    if length == 0 or seen < length - 1 or marker[length - 1] != drawn:
        return False
    for index in range(length - 1):
        if recent[(seen - length + 1 + index) % at.HISTORY] != marker[index]:
            return False
    return True


@njit()
def _read(words: Any, request: Any, token: int) -> tuple[int, bool, bool, bool, bool]:
    """Meaning of a drawn token: the thinking tokens before it, and whether it goes on with a marker
    that opens again, opens, completes the marker that closes, or closes by itself."""
    ints, recent = request.ints, request.recent
    phase, thought, seen = ints[at.PHASE], int(ints[at.THOUGHT]), int(ints[at.SEEN])
    # A marker that opens what the prompt had opened is no thought.
    beginning = ints[at.SEQUENCE] == 0 and phase == at.THINKING and thought == 0
    beginning = beginning and seen < len(words.start)
    again = beginning and words.start[seen] == token
    if beginning and not again:
        thought = seen
    opened = phase == at.BEFORE and _completes(words.start, recent, seen, token)
    able = phase != at.ANSWER and not opened and not again
    marked = able and _completes(words.end, recent, seen, token)
    called = able and among(words.implicit, token)
    return thought, again, opened, marked, called


@njit()
def _loops(runs: Ints) -> bool:
    """True if the last thinking tokens are a block that stands there often enough."""
    for period in range(1, at.HISTORY + 1):
        if runs[period - 1] >= max(period * (at.LOOP_REPEATS - 1), at.LOOP_TOKENS):
            return True
    return False


@njit()
def _mean(window: Floats, thought: int, width: int) -> float:
    """Mean entropy of the last `width` thinking tokens, nats."""
    total = 0.0
    for age in range(1, width + 1):
        total += window[(thought - age) % at.WINDOW_TOKENS]
    return total / width


@njit()
def _reason(request: Any, position: int, thought: int, again: bool) -> int:
    """Reason to close thinking by the token at `position`; 0 for none."""
    ints, floats = request.ints, request.floats
    budget = int(ints[at.BUDGET])
    ended = ints[at.ENDED] != 0 and thought > 0
    spent = thought >= budget and (ended or thought >= budget + ints[at.GRACE])
    if spent and not again:
        return at.BY_BUDGET
    if position >= ints[at.LATEST]:
        return at.BY_LENGTH
    if again or thought == 0 or thought < ints[at.MINIMUM]:
        return 0
    if ints[at.LOOP] != 0 and _loops(request.runs):
        return at.BY_LOOP
    width = int(ints[at.WINDOW])
    sure = ended and 0 < width <= thought
    if sure and _mean(request.window, thought, width) < floats[at.EXIT_BELOW]:
        return at.BY_ENTROPY
    return at.BY_CERTAINTY if ended and ints[at.SETTLED] != 0 else 0


@njit()
def _decide(
    request: Any, position: int, token: int, thought: int, again: bool, closing: bool
) -> tuple[int, int]:
    """Sequence to force from a drawn token on, and why thinking is closed; 0 for neither.

    Args:
        request: The request.
        position: Position of the token.
        token: The drawn token.
        thought: Thinking tokens before it.
        again: Whether it goes on with a marker that opens again.
        closing: Whether it closes of itself.

    """
    ints = request.ints
    kind = int(ints[at.SEQUENCE])
    if kind != 0 or ints[at.PHASE] != at.THINKING or ints[at.GOVERNED] == 0:
        return kind, 0
    reason = _reason(request, position, thought, again)
    if reason != 0:
        return at.CLOSING, reason
    stop = among(request.stops[: ints[at.STOPS]], token)
    if (stop or closing) and thought < ints[at.MINIMUM] and ints[at.NUDGES] > 0:
        return at.NUDGE, 0
    return (at.CLOSING, at.BY_MODEL) if stop else (0, 0)


@njit()
def _force(words: Any, request: Any, kind: int) -> None:
    """Note that a token of a sequence has been put there."""
    ints = request.ints
    length = len(words.closing) if kind == at.CLOSING else ints[at.NUDGES]
    going = ints[at.FORCED] + 1 < length
    ints[at.SEQUENCE] = kind if going else 0
    ints[at.FORCED] = ints[at.FORCED] + 1 if going else 0


@njit()
def _remember(request: Any, token: int, thought: int, entropy: float) -> None:
    """Take a token up into the rings: into `recent`, and if it comes after so many thinking tokens,
    and not after -1, into `runs` and `window`."""
    ints, recent, runs = request.ints, request.recent, request.runs
    seen = int(ints[at.SEEN])
    if thought >= 0 and ints[at.LOOP] != 0:
        for period in range(1, at.HISTORY + 1):
            # Only tokens of this thinking phase count, and all of these were thinking tokens.
            repeated = period <= thought and recent[(seen - period) % at.HISTORY] == token
            runs[period - 1] = runs[period - 1] + 1 if repeated else 0
    recent[seen % at.HISTORY] = token
    ints[at.SEEN] = seen + 1
    if thought >= 0:
        request.window[thought % at.WINDOW_TOKENS] = entropy


@njit()
def _within(floats: Floats, strength: float) -> float:
    """A strength kept within the bounds; the base for one that is no number."""
    if math.isnan(strength):
        return float(floats[at.BASE])
    return float(min(max(strength, floats[at.LOW]), floats[at.HIGH]))


@njit()
def _proportional(floats: Floats, mean: float) -> float:
    """Strength after a segment of this mean entropy: a PI controller whose sum stands still at a
    bound."""
    low, high, gain = floats[at.LOW], floats[at.HIGH], floats[at.INTEGRAL_GAIN]
    error = mean - floats[at.TARGET]
    if not math.isfinite(error):
        return float(floats[at.BASE])
    push = gain * error
    wanted = floats[at.BASE] + floats[at.GAIN] * error + gain * (floats[at.ERROR] + error)
    if not (wanted > high and push > 0) and not (wanted < low and push < 0):
        floats[at.ERROR] += error
    return float(_within(floats, wanted))


@njit(error_model="numpy")
def _confidence(floats: Floats, mean: float) -> float:
    """Strength after a segment of this mean confidence, by that and its variance over the last
    two."""
    bottom, top = floats[at.CONFIDENCE_LOW], floats[at.CONFIDENCE_HIGH]
    step = mean - floats[at.CONFIDENCE]
    variance = 0.0 if math.isnan(step) else step * step / 4
    if mean < bottom and variance > floats[at.VARIANCE_HIGH]:
        return float(floats[at.HIGH])
    if mean > top and variance < floats[at.VARIANCE_LOW]:
        return float(floats[at.LOW])
    steep, middle, half = floats[at.STEEPNESS], (bottom + top) / 2, (top - bottom) / 2
    ratio = math.tanh(steep * (mean - middle)) / math.tanh(steep * half)
    return float(_within(floats, floats[at.BASE] * (1 - ratio) / 2))


@njit()
def _steer(request: Any, position: int, measured: Floats) -> None:
    """Take a thinking token up into its segment, or end the segment with it."""
    ints, floats = request.ints, request.floats
    segments, tokens = ints[at.SEGMENTS], ints[at.SEGMENT]
    if segments == at.SEGMENT_ENDS:
        return  # a further strength could not be found again for what is read anew
    if ints[at.ENDED] == 0:
        ints[at.SEGMENT] = tokens + 1
        floats[at.ENTROPY_SUM] += measured[at.ENTROPY]
        floats[at.CONFIDENCE_SUM] += measured[at.TOP]
        return
    if tokens == 0:
        return
    mean = floats[at.CONFIDENCE_SUM] / tokens
    if ints[at.LAW] == at.PROPORTIONAL:
        strength = _proportional(floats, floats[at.ENTROPY_SUM] / tokens)
    else:
        strength = _confidence(floats, mean)
    request.ends[segments], request.strengths[segments] = position, strength
    ints[at.SEGMENTS], ints[at.SEGMENT] = segments + 1, 0
    floats[at.STRENGTH], floats[at.CONFIDENCE] = strength, mean
    floats[at.ENTROPY_SUM] = floats[at.CONFIDENCE_SUM] = 0


@njit()
def _advance(
    words: Any, request: Any, position: int, token: int, measured: Floats, given: bool
) -> tuple[int, bool]:
    """Take the token at `position` up: the final token, and whether it was put there.

    A `given` token stays whatever was due; if it is what would have been put there, it was.
    """
    ints = request.ints
    phase = ints[at.PHASE]
    thought, again, opened, marked, called = _read(words, request, token)
    kind, reason = _decide(request, position, token, thought, again, marked or called)
    if kind != 0:
        sequence = words.closing if kind == at.CLOSING else request.nudge
        put = sequence[ints[at.FORCED]]
        if given and put != token:
            kind = reason = ints[at.SEQUENCE] = ints[at.FORCED] = 0
        else:
            token = put
            _force(words, request, kind)
    closed, forced = kind == at.CLOSING, kind != 0
    ended = (marked or called) and not forced
    if reason != 0:
        ints[at.CLOSED_BY] = reason
    elif ended and phase == at.THINKING:
        ints[at.CLOSED_BY] = at.BY_MODEL

    again = again and not forced
    counted = phase == at.THINKING and not closed and not ended and not again
    after = thought if counted else int(ints[at.SEEN]) if again else -1
    _remember(request, token, after, measured[at.ENTROPY])
    if ended and marked:
        thought = max(thought - max(len(words.end) - 1, 0), 0)
    ints[at.THOUGHT] = thought + 1 if counted else thought
    if phase == at.ANSWER or (ended and not marked):
        ints[at.ANSWERED] += 1
    if opened:
        ints[at.PHASE] = at.THINKING
    elif ended or (closed and ints[at.SEQUENCE] == 0):
        ints[at.PHASE] = at.ANSWER
    ints[at.ENDED] = 0 <= token < len(words.boundary) and words.boundary[token]
    if counted and ints[at.LAW] != 0 and not given:
        _steer(request, position, measured)
    return token, forced


@njit()
def _request(state: Any, slot: int) -> Any:
    return State(
        state.ints[slot],
        state.floats[slot],
        state.recent[slot],
        state.runs[slot],
        state.window[slot],
        state.nudge[slot],
        state.stops[slot],
        state.ends[slot],
        state.strengths[slot],
    )


@njit()
def _govern(
    state: Any,
    words: Any,
    slots: Ints,
    positions: NDArray[np.int64],
    rows: NDArray[np.int64],
    sampled: NDArray[np.int64],
    statistics: Floats,
    track: Floats,
) -> None:
    track[:] = np.nan
    for i in range(len(slots)):
        row, position = rows[i], positions[i] + 1
        request, measured = _request(state, slots[i]), statistics[i]
        if position < request.ints[at.KNOWN]:
            continue
        sampled[row], forced = _advance(words, request, position, sampled[row], measured, False)
        track[i, at.T_ENTROPY], track[i, at.T_TOP] = measured[at.ENTROPY], measured[at.TOP]
        track[i, at.T_STRENGTH] = request.floats[at.STRENGTH]
        track[i, at.T_CLOSED_BY] = request.ints[at.CLOSED_BY]
        track[i, at.T_FORCED] = forced


def govern(state: State, vocabulary: Vocabulary, step: Step) -> None:
    """Loop of `govern`."""
    tokens = step.sampled.long()
    _govern(
        _arrays(state),
        _arrays(vocabulary),
        step.slots.numpy(),
        step.positions.numpy(),
        step.rows.long().numpy(),
        tokens.numpy(),
        step.statistics.numpy(),
        step.track.numpy(),
    )
    if tokens is not step.sampled:
        step.sampled.copy_(tokens)
    logprobs(step.logits, step.logit_rows, tokens, step.rows, step.statistics, step.track)


def _arrays(tensors: State | Vocabulary) -> Any:
    arrays: Any = [tensor.numpy() for tensor in tensors]
    return type(tensors)(*arrays)


@njit()
def _replay(state: Any, words: Any, position: int, tokens: Ints) -> None:
    request = _request(state, 0)
    nothing = np.full(at.STATISTICS, np.nan, np.float32)
    for index in range(len(tokens)):
        _advance(words, request, position + index, tokens[index], nothing, True)


def replay(state: State, vocabulary: Vocabulary, position: int, tokens: Tensor) -> None:
    """Loop of `replay`."""
    _replay(_arrays(state), _arrays(vocabulary), position, tokens.numpy())
