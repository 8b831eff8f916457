"""Governing how long a request thinks, and how hard it is steered: one step of all requests."""

from typing import NamedTuple

import torch
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.governor_kernels import govern_triton
from steersman_kernels.loops import loops
from steersman_kernels.vocabulary import Vocabulary


class State(NamedTuple):
    """The table of watched requests, a row each.

    A new request gets its rows of `ints`, `floats`, `nudge` and `stops`, all of them written; what
    the other tensors hold of the slot's last owner is never looked at.

    Attributes:
        ints: `[capacity, INTS]`, int32.
        floats: `[capacity, FLOATS]`, float32.
        recent: `[capacity, HISTORY]`, int32: a ring of the tokens drawn, the next at
            `SEEN % HISTORY`.
        runs: `[capacity, HISTORY]`, int32: at `period - 1`, how many thinking tokens in a row were
            the one that stands `period` tokens before. Kept where `LOOP` is 1.
        window: `[capacity, WINDOW_TOKENS]`, float32: a ring of the entropies of thinking tokens, in
            nats, the next at `THOUGHT % WINDOW_TOKENS`.
        nudge: `[capacity, NUDGE_TOKENS]`, int32: what takes the place of an early end.
        stops: `[capacity, STOP_TOKENS]`, int32: the tokens that end the response, each within the
            vocabulary, none twice.
        ends: `[capacity, SEGMENT_ENDS]`, int32: positions of the segment ends, ascending.
        strengths: `[capacity, SEGMENT_ENDS]`, float32: the strength from each of them on.

    """

    ints: Tensor
    floats: Tensor
    recent: Tensor
    runs: Tensor
    window: Tensor
    nudge: Tensor
    stops: Tensor
    ends: Tensor
    strengths: Tensor

    @classmethod
    def empty(cls, capacity: int, device: torch.device | str = "cpu") -> "State":
        """A table of zeros for so many requests."""

        def rows(width: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(capacity, width, dtype=dtype, device=device)

        return cls(
            ints=rows(at.INTS, torch.int32),
            floats=rows(at.FLOATS, torch.float32),
            recent=rows(at.HISTORY, torch.int32),
            runs=rows(at.HISTORY, torch.int32),
            window=rows(at.WINDOW_TOKENS, torch.float32),
            nudge=rows(at.NUDGE_TOKENS, torch.int32),
            stops=rows(at.STOP_TOKENS, torch.int32),
            ends=rows(at.SEGMENT_ENDS, torch.int32),
            strengths=rows(at.SEGMENT_ENDS, torch.float32),
        )


class Step(NamedTuple):
    """The watched requests of a step, and the tokens just drawn.

    Attributes:
        slots: `[n]`, int32: row of the table of each watched request of the step, none twice.
        positions: `[n]`, int64: of the request's last input token; the drawn one has the next.
        rows: `[n]`, int32 or int64: where in `sampled` its drawn token is.
        sampled: `[batch]`, int32 or int64; changed in place. A token may be outside the vocabulary.
        logits: `[any, vocabulary]`, bfloat16, float16 or float32; the last dimension contiguous.
        logit_rows: `[n]`, int32 or int64: its row there.
        statistics: `[n, STATISTICS]`, float32, contiguous: of that row, as `entropy` returns them;
            NaN where they are not wanted.
        track: `[n, TRACK]`, float32, contiguous; written: entropy, log-probability of the final
            token (NaN outside the vocabulary) and top probability, STRENGTH and CLOSED_BY after the
            step, 1 if the final token was forced. NaN in the others, and in all where no token was
            drawn.

    """

    slots: Tensor
    positions: Tensor
    rows: Tensor
    sampled: Tensor
    logits: Tensor
    logit_rows: Tensor
    statistics: Tensor
    track: Tensor


def govern(state: State, vocabulary: Vocabulary, step: Step) -> None:
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
    `step.slots.shape[0]` programs, with no transfer.

    Args:
        state: The table; changed in place.
        vocabulary: Markers and boundaries.
        step: The requests; `sampled` and `track` are changed in place.

    Nothing is checked: an index out of range reads or writes out of bounds.
    """
    run = govern_triton if step.sampled.is_cuda else loops("governor").govern
    run(state, vocabulary, step)


def replay(state: State, vocabulary: Vocabulary, position: int, tokens: Tensor) -> None:
    """Bring a request that begins after generated tokens to where it would be after them.

    Phase, counts, loops and the sequence being forced follow from the tokens; entropies do not, so
    the window of an exit begins anew, and the strength of a law is its base. A token that is not
    what would have been put there counts as drawn: so does one that stood for an end which the
    model itself drew, since that end is not among the tokens.

    Args:
        state: A table of one row on the host; changed in place.
        vocabulary: Markers and boundaries, on the host.
        position: Position of the first token.
        tokens: `[any]`, int32, on the host: the generated tokens.

    """
    loops("governor").replay(state, vocabulary, position, tokens)
