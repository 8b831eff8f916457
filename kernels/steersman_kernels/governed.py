"""State of a request in the governor: the table's columns, and the tokens it must know.

A watched request has a row, its "seat", in every tensor of `State`. The columns of `ints`:

| column | holds |
|---|---|
| `KNOWN` | tokens known when the request arrived: a step that ends before them draws none |
| `BUDGET` | thinking tokens, or `NEVER` |
| `GRACE` | tokens over the budget in which the end of a line or sentence is waited for |
| `MINIMUM` | thinking tokens before which the model may not close |
| `LATEST` | position from which on a drawn token closes, for an answer to fit; or `NEVER` |
| `MIN_ANSWER` | tokens of the answer before which the response may not end |
| `LOOP` | 1: a loop closes |
| `WINDOW` | tokens over which a low mean entropy closes, 0 to `WINDOW_TOKENS`; 0: none does |
| `NUDGES` | length of the nudge, 0 to `NUDGE_TOKENS` |
| `LAW` | 0, `PROPORTIONAL` or `CONFIDENCE_LAW` |
| `GOVERNED` | 0: the request is only watched, and its tokens are left alone |
| `PHASE` | `BEFORE`, `THINKING` or `ANSWER` |
| `THOUGHT` | thinking tokens so far, markers not counted, nor one that opens what the prompt had |
| `ANSWERED` | tokens of the answer so far |
| `SEQUENCE` | what is being forced: 0, `CLOSING` or `NUDGE` |
| `FORCED` | tokens of that forced so far |
| `CLOSED_BY` | why thinking was closed, one of `BY_MODEL` to `BY_CERTAINTY`; 0: it was not |
| `ENDED` | 1: the last token's text ended a line or a sentence |
| `SEEN` | drawn tokens so far |
| `SEGMENT` | tokens of the running segment, without the one that ends it |
| `SEGMENTS` | segment ends recorded; at `SEGMENT_ENDS` the strength stands still |
| `SETTLED` | 1: the answer is known, and thinking may close at the end of a line or sentence |
| `STOPS` | tokens that end the response, 0 to `STOP_TOKENS` |

and of `floats`:

| column | holds |
|---|---|
| `EXIT_BELOW` | mean entropy below which thinking closes, nats |
| `TARGET` | entropy that `PROPORTIONAL` aims at, nats |
| `GAIN`, `INTEGRAL_GAIN` | strength per nat of error, and of its sum |
| `BASE`, `LOW`, `HIGH` | strength without an error; its bounds |
| `CONFIDENCE_LOW`, `CONFIDENCE_HIGH` | below and above are overthinking and underthinking |
| `VARIANCE_LOW`, `VARIANCE_HIGH` | bounds of the variance for the same |
| `STEEPNESS` | of the curve between, as `steepness` finds it |
| `ENTROPY_SUM`, `CONFIDENCE_SUM` | of the running segment: nats, top probabilities |
| `CONFIDENCE` | mean top probability of the last segment; NaN before the first |
| `ERROR` | sum of the errors, nats |
| `STRENGTH` | the strength now; `BASE` at first |
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman_kernels.steered import MARKER_TOKENS as MARKER_TOKENS
from steersman_kernels.steered import NEVER as NEVER

# Columns of `ints`: what the request asks for, ...
KNOWN = 0
BUDGET = 1
GRACE = 2
MINIMUM = 3
LATEST = 4
MIN_ANSWER = 5
LOOP = 6
WINDOW = 7
NUDGES = 8
LAW = 9
GOVERNED = 10
# ... and how far it is.
PHASE = 11
THOUGHT = 12
ANSWERED = 13
SEQUENCE = 14
FORCED = 15
CLOSED_BY = 16
ENDED = 17
SEEN = 18
SEGMENT = 19
SEGMENTS = 20
SETTLED = 21
STOPS = 22
INTS = 23

# Columns of `floats`.
EXIT_BELOW = 0
TARGET = 1
GAIN = 2
INTEGRAL_GAIN = 3
BASE = 4
LOW = 5
HIGH = 6
CONFIDENCE_LOW = 7
CONFIDENCE_HIGH = 8
VARIANCE_LOW = 9
VARIANCE_HIGH = 10
STEEPNESS = 11
ENTROPY_SUM = 12
CONFIDENCE_SUM = 13
CONFIDENCE = 14
ERROR = 15
STRENGTH = 16
FLOATS = 17

# Values of PHASE, of SEQUENCE, of CLOSED_BY and of LAW.
BEFORE = 0
THINKING = 1
ANSWER = 2
CLOSING = 1
NUDGE = 2
BY_MODEL = 1
BY_BUDGET = 2
BY_ENTROPY = 3
BY_LOOP = 4
BY_LENGTH = 5
BY_CERTAINTY = 6
PROPORTIONAL = 1
CONFIDENCE_LAW = 2

# Columns of what `entropy` returns.
LSE = 0
ENTROPY = 1
TOP = 2
STATISTICS = 3

# Columns of the track.
T_ENTROPY = 0
T_LOGPROB = 1
T_TOP = 2
T_STRENGTH = 3
T_CLOSED_BY = 4
T_FORCED = 5
TRACK = 6

# Sizes: the rings' are powers of two.
HISTORY = 128
WINDOW_TOKENS = 256
NUDGE_TOKENS = 16
STOP_TOKENS = 64
SEGMENT_ENDS = 4096

# A loop is a block that stands there so often, over more tokens than these.
LOOP_REPEATS = 3
LOOP_TOKENS = 32


@dataclass(frozen=True, slots=True)
class State:
    """The table of watched requests, a row each.

    A new request gets its rows of `ints`, `floats`, `nudge` and `stops`, all of them written; what
    the other tensors hold of the seat's last owner is never looked at.

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
            ints=rows(INTS, torch.int32),
            floats=rows(FLOATS, torch.float32),
            recent=rows(HISTORY, torch.int32),
            runs=rows(HISTORY, torch.int32),
            window=rows(WINDOW_TOKENS, torch.float32),
            nudge=rows(NUDGE_TOKENS, torch.int32),
            stops=rows(STOP_TOKENS, torch.int32),
            ends=rows(SEGMENT_ENDS, torch.int32),
            strengths=rows(SEGMENT_ENDS, torch.float32),
        )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that mean something to the governor.

    Attributes:
        start: `[<= MARKER_TOKENS]`, int32: the marker that opens thinking; empty if there is none.
        end: `[<= MARKER_TOKENS]`, int32: the marker that closes it; empty if there is none.
        implicit: `[any]`, int32: tokens each of which closes it too, as the first of the answer.
        closing: `[<= MARKER_TOKENS]`, int32: what is forced to close; not empty where a request
            with a thinking phase is governed.
        boundary: `[vocabulary]`, bool: the text ends a line or a sentence.

    """

    start: Tensor
    end: Tensor
    implicit: Tensor
    closing: Tensor
    boundary: Tensor
