"""Layout of the tables that kernels, engine and front end share: columns, codes and sizes.

Each fact stands here once. Columns and codes are plain numbers of the module: those are what a
loop of numba and a kernel of Triton take for constants. Neither torch nor triton is needed.
"""

import math
import struct
from itertools import product
from typing import Literal, NamedTuple, Self, get_args

NEVER = 2**31 - 1
"""A position, or a number of tokens, that is never reached."""

# Sizes in tokens: those of rings are powers of two.
MARKER_TOKENS = 16
NUDGE_TOKENS = 16
STOP_TOKENS = 64
HISTORY = 128
WINDOW_TOKENS = 256
SEGMENT_ENDS = 4096

# A loop is a block that stands there so often, over more tokens than these.
LOOP_REPEATS = 3
LOOP_TOKENS = 32

# Classes of tokens: the part of the sequence that a token is in, and whether its text ends a line
# or a sentence. The thinking is `OPENED <= position < CLOSED`.
Part = Literal["prompt", "thinking", "answer"]
PARTS: tuple[Part, ...] = get_args(Part)
IN_PROMPT, IN_THINKING, IN_ANSWER = range(len(PARTS))
CLASSES = tuple(product(PARTS, (False, True)))
"""The classes in their order, by number: `2 * part + boundary`."""

# The table of steered requests, int32.
ORIGIN = 0  # prompt tokens of the request: the positions below are the prompt
OPENED = 1  # position of the token that opened the thinking phase, or NEVER
CLOSED = 2  # position of the token that closed it, or NEVER
ROWS = 3  # + class: bank row for the tokens of the class, -1 where these are not steered
COUNTS = ROWS + len(CLASSES)  # + class: tokens of the class steered so far
EDITED = COUNTS + len(CLASSES)  # tokens that have gone through the request's edit so far
RECENT = 16  # + position % MARKER_TOKENS: the last generated tokens, in which markers are found
WIDTH = RECENT + MARKER_TOKENS

# The governor's table, int32: what the request asks for, ...
KNOWN = 0  # tokens known when the request arrived: a step that ends before them draws none
BUDGET = 1  # thinking tokens, or NEVER
GRACE = 2  # tokens over the budget in which the end of a line or sentence is waited for
MINIMUM = 3  # thinking tokens before which the model may not close
LATEST = 4  # position from which on a drawn token closes, for an answer to fit; or NEVER
MIN_ANSWER = 5  # tokens of the answer before which the response may not end
LOOP = 6  # 1: a loop closes
WINDOW = 7  # tokens over which a low mean entropy closes, 0 to WINDOW_TOKENS; 0: none does
NUDGES = 8  # length of the nudge, 0 to NUDGE_TOKENS
LAW = 9  # index of LAWS
GOVERNED = 10  # 0: the request is only watched, and its tokens are left alone
# ... and how far it is.
PHASE = 11  # BEFORE, THINKING or ANSWER
THOUGHT = 12  # thinking tokens so far, no markers, nor one that opens what the prompt had
ANSWERED = 13  # tokens of the answer so far
SEQUENCE = 14  # what is being forced: 0, CLOSING or NUDGE
FORCED = 15  # tokens of that forced so far
CLOSED_BY = 16  # why thinking was closed: index of REASONS
ENDED = 17  # 1: the last token's text ended a line or a sentence
SEEN = 18  # drawn tokens so far
SEGMENT = 19  # tokens of the running segment, without the one that ends it
SEGMENTS = 20  # segment ends recorded; at SEGMENT_ENDS the strength stands still
SETTLED = 21  # 1: the answer is known, and thinking may close at the end of a line or sentence
STOPS = 22  # tokens that end the response, 0 to STOP_TOKENS
INTS = STOPS + 1

# The governor's table, float32.
EXIT_BELOW = 0  # mean entropy below which thinking closes, nats
TARGET = 1  # entropy that PROPORTIONAL aims at, nats
GAIN = 2  # strength per nat of error
INTEGRAL_GAIN = 3  # strength per nat of the errors' sum
BASE = 4  # strength without an error
LOW = 5  # bounds of the strength
HIGH = 6
CONFIDENCE_LOW = 7  # mean top probability below which it may be overthinking
CONFIDENCE_HIGH = 8  # and above which it may be underthinking
VARIANCE_LOW = 9  # bounds of the variance for the same
VARIANCE_HIGH = 10
STEEPNESS = 11  # of the curve between, as `governor.steepness` finds it
ENTROPY_SUM = 12  # of the running segment, nats
CONFIDENCE_SUM = 13  # of the running segment: top probabilities
CONFIDENCE = 14  # mean top probability of the last segment; NaN before the first
ERROR = 15  # sum of the errors, nats
STRENGTH = 16  # the strength now; BASE at first
FLOATS = STRENGTH + 1

# Values of PHASE and of SEQUENCE.
BEFORE, THINKING, ANSWER = range(3)
CLOSING, NUDGE = 1, 2

# Values of LAW and of CLOSED_BY, with their names outside.
LawKind = Literal["proportional", "confidence"]
LAWS: tuple[LawKind | None, ...] = (None, *get_args(LawKind))
PROPORTIONAL, CONFIDENCE_LAW = range(1, len(LAWS))

ClosedBy = Literal["model", "budget", "entropy", "loop", "length", "certainty"]
REASONS: tuple[ClosedBy | None, ...] = (None, *get_args(ClosedBy))
"""Reasons why thinking is closed, by code; None: it is open."""
BY_MODEL, BY_BUDGET, BY_ENTROPY, BY_LOOP, BY_LENGTH, BY_CERTAINTY = range(1, len(REASONS))

# Columns of the result of `entropy`.
LSE, ENTROPY, TOP = range(3)
STATISTICS = TOP + 1

CONFIDENT_TOKENS = 20
"""Likeliest tokens of a distribution over which `Value.confidence` is the mean."""


class Value(NamedTuple):
    """Measurements of one generated token, a row of the track; NaN where they were not asked for.

    Attributes:
        entropy: Of the raw distribution: the model's own, before temperature and penalties; nats.
        logprob: Of the token in that distribution; nats.
        top: The largest probability of that distribution.
        processed_entropy: Of the processed distribution: the one that the token is really drawn
            from, after penalties, masks, temperature, min-p, top-k and top-p; nats. Tokens that
            are masked count nothing. 0 for a greedy request.
        processed_logprob: Of the token in the processed distribution; nats. 0 for a greedy
            request. NaN for a token that was forced or is outside the vocabulary.
        confidence: Mean log-probability of the `CONFIDENT_TOKENS` likeliest tokens of the raw
            distribution, masked ones left out; nats, never above 0. The farther below 0, the surer
            is the model: [DeepConf](https://arxiv.org/abs/2508.15260) calls its negative the token
            confidence (section 3.1).
        strength: The balanced vector's strength from this token on.
        closed_by: Reason why the thinking phase is closed by now: an index of `REASONS`.
        forced: 1 if the token was put there and not drawn.

    """

    entropy: float
    logprob: float
    top: float
    processed_entropy: float
    processed_logprob: float
    confidence: float
    strength: float
    closed_by: int
    forced: int

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Out of the form in which it travels and is kept: a float32 for each of the fields."""
        *measured, closed_by, forced = VALUE.unpack(content)
        return cls._make((*measured, int(closed_by), int(forced)))

    @classmethod
    def undrawn(cls) -> Self:
        """Measurements of a token that nobody drew."""
        measured = [math.nan] * (len(cls._fields) - 2)
        return cls._make((*measured, 0, 1))

    def packed(self) -> bytes:
        """In that form."""
        return VALUE.pack(*self)


# Columns of the track, float32: those of `Value`.
TRACK = len(Value._fields)
T_ENTROPY, T_LOGPROB, T_TOP, *_REST = range(TRACK)
T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB, T_CONFIDENCE, *_REST = _REST
T_STRENGTH, T_CLOSED_BY, T_FORCED = _REST

# Rows of the tables that travel to the front end.
VALUE = struct.Struct(f"={TRACK}f")
STEERED_COUNTS = struct.Struct(f"={len(CLASSES) + 1}i")
"""Tokens steered, for each of `CLASSES`, and last those that went through an edit."""

FINGERPRINT = str(sorted(item for item in globals().items() if isinstance(item[1], int)))
"""All numbers of this module. A kernel may read a module's numbers, but Triton does not see that
one has changed since it put the compiled kernel into its cache: each kernel takes this as a
constant."""
