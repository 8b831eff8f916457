"""Compiling the loops before an engine asks for them, in a process beside it.

An engine on a CPU computes in float32, so the loops are compiled for that; one that does not, and a
request that brings another type, compiles what it needs when it needs it.
"""

import torch

from steersman_kernels.entropy import entropy, measuring
from steersman_kernels.gate import gate
from steersman_kernels.governed import TRACK, State, Vocabulary
from steersman_kernels.governor import coefficients, forbid_stops, govern
from steersman_kernels.loops import kept
from steersman_kernels.steer import steer
from steersman_kernels.steered import WIDTH, Markers

_SIZE = 32
"""Columns of the made-up rows; the loops are compiled for any number."""


def compile_loops() -> None:
    """Run each loop that every server needs, on one row.

    Raises:
        OSError: What was compiled cannot be kept.

    """
    row, none = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    numbers, spans = torch.zeros(1, _SIZE), torch.arange(2, dtype=torch.int32)
    boundary = torch.zeros(_SIZE, dtype=torch.bool)
    steer(numbers, numbers, row.int(), torch.ones(1))
    gate(
        torch.zeros(1, WIDTH, dtype=torch.int32),
        seats=row.int(),
        query_start=spans,
        positions=row,
        token_ids=row.int(),
        boundary=boundary,
        markers=Markers(none, none, none),
        slot=row.int(),
    )
    _watch(numbers, Vocabulary(none, none, none, none, boundary), spans, row)
    (kept.directory() / kept.DONE).touch()


def _watch(
    logits: torch.Tensor, vocabulary: Vocabulary, spans: torch.Tensor, row: torch.Tensor
) -> None:
    """Measure and govern one request."""
    state = State.empty(1)
    measuring(row, row)(logits, row)
    forbid_stops(logits, state, row.int(), row)
    coefficients(torch.empty(1), state, row.int(), spans, row)
    govern(
        state,
        vocabulary,
        seats=row.int(),
        positions=row,
        rows=row,
        sampled=row,
        logits=logits,
        logit_rows=row,
        statistics=entropy(logits, row),
        track=torch.empty(1, TRACK),
    )
