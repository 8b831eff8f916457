"""`entropy` as one loop over the vocabulary on a CPU, made by torch's compiler."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from steersman_kernels.reference import entropy_reference

Entropy = Callable[[Tensor], Tensor]


def _entropy(logits: Tensor) -> Tensor:
    values = logits.float()
    top = values.amax(dim=1, keepdim=True)
    # Infinity times 0 is no number.
    gaps = (values - top).clamp(min=torch.finfo(torch.float32).min)
    weights = gaps.exp()
    # The largest stays out of the sum: nothing is lost where it has nearly all the mass.
    below = gaps < 0
    rest = torch.where(below, weights, 0.0).sum(dim=1)
    largest = torch.where(below, 0.0, 1.0).sum(dim=1)
    spread = (weights * gaps).sum(dim=1)
    total = largest + rest
    log = (rest / largest).log1p() + largest.log()
    most = torch.where(top.isnan(), top, 1 / total[:, None])
    return torch.cat([top + log[:, None], (log - spread / total)[:, None], most], dim=1)


@functools.cache
def entropy_fused(vocabulary: int) -> Entropy:
    """`entropy` of all rows of some logits on a CPU, in a third of the time of the reference.

    Compiles, which takes seconds and a C++ compiler, and tries what it has compiled.

    Args:
        vocabulary: Tokens of the logits that will come.

    Returns:
        What makes `[rows, STATISTICS]` of logits `[rows, vocabulary]`.

    Raises:
        RuntimeError: There is no compiler, or what it made is wrong.

    """
    # Without worker processes, which would stay.
    compiled = torch.compile(_entropy, dynamic=True, options={"compile_threads": 1})

    def fused(logits: Tensor) -> Tensor:
        if len(logits) == 1:  # would be compiled once more
            return entropy_reference(logits, torch.zeros(1, dtype=torch.int64))
        statistics: Tensor = compiled(logits)
        return statistics

    # As an engine calls it, or it would be compiled once more then.
    with torch.inference_mode():
        probe = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(0)) * 3
        probe[0, vocabulary // 2] = -torch.inf
        for logits in (probe, probe.bfloat16()):
            wanted = entropy_reference(logits, torch.arange(3))
            if not torch.allclose(fused(logits), wanted, rtol=1e-4):
                raise RuntimeError("the compiled entropy is wrong")
    return fused
