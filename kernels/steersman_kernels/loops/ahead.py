"""Compiling the loops before an engine asks for them, in a process beside it.

An engine on a CPU computes in float32, so the loops are compiled for that; one that does not, and a
request that brings another type, compiles its loops when it needs them.
"""

import torch

from steersman_kernels.gate import gate
from steersman_kernels.layout import WIDTH
from steersman_kernels.loops import kept
from steersman_kernels.steer import steer
from steersman_kernels.vocabulary import Vocabulary
from steersman_kernels.warm_up import warm_up

_SIZE = 32
"""Columns of the made-up rows; the loops are compiled for any number."""


def compile_loops() -> None:
    """Run each loop that every server needs, on one row.

    Raises:
        OSError: The compiled loops cannot be kept.

    """
    row, none = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    numbers, spans = torch.zeros(1, _SIZE), torch.arange(2, dtype=torch.int32)
    vocabulary = Vocabulary(none, none, none, none, torch.zeros(_SIZE, dtype=torch.bool))
    requests = torch.zeros(1, WIDTH, dtype=torch.int32)
    steer(numbers, numbers, row.int(), torch.ones(1))
    gate(requests, row.int(), spans, row, row.int(), vocabulary, row.int())
    warm_up(vocabulary, torch.float32, 1)
    (kept.directory() / kept.DONE).touch()
