"""Governing how long a request thinks, and how hard it is steered: one step of all requests."""

import math

from torch import Tensor

from steersman_kernels.governed import State, Vocabulary
from steersman_kernels.governor_kernels import (
    coefficients_triton,
    forbid_stops_triton,
    govern_triton,
)
from steersman_kernels.loops import loops

__all__ = ["coefficients", "forbid_stops", "govern", "replay", "steepness"]


def govern(
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
    """Advance the watched requests by the tokens just drawn, of which it may replace some.

    A governed request that thinks is made to close, by `closing` from this token on, at the first
    of: GRACE tokens over the budget; the end of a sentence over the budget; the position LATEST;
    after MINIMUM thinking tokens also a loop, or, at the end of a sentence, a mean entropy of the
    last WINDOW tokens below EXIT_BELOW. A loop is a block of up to HISTORY tokens that stands there
    LOOP_REPEATS times, in more than LOOP_TOKENS tokens. Where the model itself would close or stop
    before MINIMUM, the nudge takes the place of that token
    ([s1](https://arxiv.org/abs/2501.19393), section 3.1); a stop after it becomes `closing`. An
    `implicit` token closes as the marker does, and is the first of the answer. A start marker that
    is drawn first of all although the prompt has opened the phase is no thinking token, and only
    LATEST closes before it.

    Where LAW asks for it, the strength changes at the end of each segment of the thinking phase, a
    line or a sentence, by the means over the segment's tokens. With the mean entropy h,
    PROPORTIONAL: `e = h - TARGET`, `BASE + GAIN e + INTEGRAL_GAIN (ERROR + e)` within LOW and HIGH;
    e joins ERROR unless it pushes further over a bound. With the mean top probability c and its
    variance over two segments `v = (c - CONFIDENCE)^2 / 4`, CONFIDENCE_LAW: HIGH where c is low and
    v high, LOW where c is high and v low, between them the curve of `steepness`
    ([ReBalance](https://arxiv.org/abs/2603.12372), dynamic control). After SEGMENT_ENDS segments it
    stands still, so that `coefficients` knows the strength of every position.

    A step that draws no token (see KNOWN) leaves all as it is. On a GPU this is one launch over
    `seats.shape[0]` programs, with no transfer.

    Args:
        state: The table; changed in place.
        vocabulary: Markers and boundaries.
        seats: `[n]`, int32: row of the table of each watched request of the step, none twice.
        positions: `[n]`, int64: of the request's last input token; the drawn one has the next.
        rows: `[n]`, int32 or int64: where in `sampled` its drawn token is.
        sampled: `[batch]`, int32 or int64; changed in place. A token may be outside the vocabulary.
        logits: `[any, vocabulary]`, bfloat16, float16 or float32; the last dimension contiguous.
        logit_rows: `[n]`, int32 or int64: its row there.
        statistics: `[n, STATISTICS]`, float32, contiguous: of that row, as `entropy` returns them;
            NaN where they are not wanted.
        track: `[n, TRACK]`, float32, contiguous; written: entropy, log-probability of the final
            token (NaN outside the vocabulary) and top probability, STRENGTH and CLOSED_BY after the
            step, 1 if the final token was forced. NaN in all where no token was drawn.

    Nothing is checked: an index out of range reads or writes out of bounds.
    """
    if sampled.is_cuda:
        govern_triton(
            state,
            vocabulary,
            seats=seats,
            positions=positions,
            rows=rows,
            sampled=sampled,
            logits=logits,
            logit_rows=logit_rows,
            statistics=statistics,
            track=track,
        )
        return
    loops("governor").govern(
        state,
        vocabulary,
        seats=seats,
        positions=positions,
        rows=rows,
        sampled=sampled,
        statistics=statistics,
        track=track,
    )
    loops("entropy").logprobs(logits, logit_rows, sampled, rows, statistics, track)


def coefficients(
    coef: Tensor, state: State, seats: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """Write the factor of every token row of the batch, before the forward pass.

    1, but in the rows of requests with a LAW the strength of the last segment end at or before the
    row's position, and BASE before the first: what the row had, or would have had, when its token
    was drawn. Which rows are steered at all is decided elsewhere.

    On a GPU these are a fill and one launch over `seats.shape[0]` programs, with no transfer.

    Args:
        coef: `[>= tokens]`, float32; the whole buffer is overwritten.
        state: The table.
        seats: `[num_requests]`, int32: row of the table in batch order; -1 for a request without.
        query_start: `[> num_requests]`, int32: first token row of each request, from 0, and the
            end of the last.
        positions: `[>= tokens]`, int64, below NEVER.

    """
    run = coefficients_triton if coef.is_cuda else loops("governor").coefficients
    run(coef, state, seats, query_start, positions)


def replay(state: State, vocabulary: Vocabulary, position: int, tokens: Tensor) -> None:
    """Bring a request that begins after generated tokens to where it would be after them.

    Phase, counts, loops and the sequence being forced follow from the tokens; entropies do not, so
    the window of an exit begins anew, and the strength of a law is its base. A token that is not
    what would have been put there counts as drawn: so does one that stood for an end which the
    model itself drew, since that end is not among the tokens.

    Args:
        state: A table of one row on the host; changed in place.
        vocabulary: Markers and boundaries, on the host.
        position: That of the first token.
        tokens: `[any]`, int32, on the host: the generated tokens.

    """
    loops("governor").replay(state, vocabulary, position, tokens)


def forbid_stops(logits: Tensor, state: State, seats: Tensor, rows: Tensor) -> None:
    """Mask the tokens that end a response where the answer is still too short, before sampling.

    With -inf, in the rows of governed requests in the phase ANSWER that have ANSWERED less than
    MIN_ANSWER; not where all other tokens are masked already, as by a grammar that is at its end.
    In place and without a transfer on any device.

    Args:
        logits: `[any, vocabulary]`, bfloat16, float16 or float32; the last dimension contiguous.
        state: The table; its STOPS `stops` are the tokens meant.
        seats: `[n]`, int32: the watched requests of the step.
        rows: `[n]`, int32 or int64: their rows of `logits`, none twice.

    """
    run = forbid_stops_triton if logits.is_cuda else loops("governor").forbid_stops
    run(logits, state, seats, rows)


def steepness(low: float, high: float, overshoot: float = 0.01) -> float:
    """The steepness k at which full confidence gives `-overshoot` times the base strength.

    The curve of the confidence law is `(1 - tanh(k (c - m)) / tanh(k s)) / 2` times the base, with
    m and s the middle and the half width of `low` to `high`: 1 at `low`, 0 at `high`. The steeper,
    the less is left for it to fall beyond `high`, so k solves
    `tanh(k (1 - m)) / tanh(k s) = 1 + 2 overshoot`.

    Args:
        low: Mean top probability at which the strength is the base.
        high: That at which it is 0.
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
