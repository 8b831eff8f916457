"""Entropy and log-probabilities of rows of logits, in one pass over the vocabulary."""

import functools
import math
from collections.abc import Callable

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor, nn

from steersman_kernels import layout as at
from steersman_kernels.loops import loops
from steersman_kernels.programs import BLOCK, WARPS

_PROGRAMS = 1024
"""Programs that keep a large GPU busy: few rows are split into as many parts."""


# A distribution, or a part of one, is three numbers: the largest logit m, and over all logits but
# that one r = sum(exp(x - m)) and u = sum(exp(x - m) (x - m)). Since the largest stays out of r,
# nothing is lost where it has nearly all the mass. Then lse = m + log1p(r), the entropy is
# log1p(r) - u / (1 + r), and the top probability 1 / (1 + r). A masked logit counts as -1e38, and
# so does what has not been read: beside any other it has no weight.


@triton.jit
def _join(m, r, u, n, s, v):  # type: ignore[no-untyped-def]
    """Two parts of a distribution as one."""
    first = m >= n
    gap = tl.where(first, n - m, m - n)
    gap = tl.where(gap < -1e4, -1e4, gap)  # 0 times infinity is no number
    scale = tl.exp(gap)
    weight = 1.0 + tl.where(first, s, r)
    moved = (tl.where(first, v, u) + weight * gap) * scale
    top = tl.where(first, m, n)
    return top, tl.where(first, r, s) + weight * scale, tl.where(first, u, v) + moved


@triton.jit  # type: ignore[untyped-decorator]
def _parts_kernel(  # type: ignore[no-untyped-def]
    logits_ptr,
    stride,
    rows_ptr,
    parts_ptr,
    size,
    width,
    BLOCK: tl.constexpr,  # noqa: N803
):
    place = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    row = logits_ptr + tl.load(rows_ptr + place).to(tl.int64) * stride
    offset = tl.arange(0, BLOCK)
    m = tl.full([BLOCK], -1e38, tl.float32)
    r = tl.full([BLOCK], 0.0, tl.float32)
    u = tl.full([BLOCK], 0.0, tl.float32)
    end = tl.minimum((part + 1) * width, size)
    for begin in range(part * width, end, BLOCK):
        column = begin + offset
        x = tl.load(row + column, mask=column < end, other=float("-inf")).to(tl.float32)
        x = tl.where(x < -1e38, -1e38, x)
        m, r, u = _join(m, r, u, x, 0.0, 0.0)
    m, r, u = tl.reduce((m, r, u), 0, _join)
    target = parts_ptr + (place * tl.num_programs(1) + part) * 3
    tl.store(target, m)
    tl.store(target + 1, r)
    tl.store(target + 2, u)


# Of the number of parts, which goes with the batch, only BLOCK makes another kernel.
@triton.jit(do_not_specialize=["parts"])  # type: ignore[untyped-decorator]
def _whole_kernel(  # type: ignore[no-untyped-def]
    parts_ptr,
    out_ptr,
    parts,
    BLOCK: tl.constexpr,  # noqa: N803
    LAYOUT: tl.constexpr,  # noqa: N803
):
    row = tl.program_id(0).to(tl.int64)
    offset = tl.arange(0, BLOCK)
    source = parts_ptr + (row * parts + offset) * 3
    inside = offset < parts
    m = tl.load(source, mask=inside, other=-1e38)
    r = tl.load(source + 1, mask=inside, other=0.0)
    u = tl.load(source + 2, mask=inside, other=0.0)
    m, r, u = tl.reduce((m, r, u), 0, _join)
    total = 1.0 + r
    # log1p(r): the logarithm, with the rounding of 1 + r taken out again.
    excess = total - 1.0
    lost = excess == 0.0
    log = tl.where(lost, r, tl.log(total) * (r / tl.where(lost, 1.0, excess)))
    out = out_ptr + row * at.STATISTICS
    tl.store(out + at.LSE, m + log)
    tl.store(out + at.ENTROPY, log - u / total)
    tl.store(out + at.TOP, 1.0 / total)


def entropy(logits: Tensor, rows: Tensor) -> Tensor:
    """Log-sum-exp, entropy and top probability of some rows of logits.

    With p = softmax(x): the entropy is `-sum(p log p)` over the full vocabulary, in nats
    ([PEAR](https://arxiv.org/abs/2510.08026), section 3.1). The log-probability of a token is its
    logit less the log-sum-exp.

    Args:
        logits: `[batch, vocabulary]`, bfloat16, float16 or float32; the last dimension contiguous.
            -inf masks a token; at least one token of a row must be finite.
        rows: `[rows]`, int32 or int64, on the same device: which rows.

    Returns:
        `[rows, STATISTICS]`, float32: the columns `LSE`, `ENTROPY` and `TOP`. Computed in float32.
        NaN where a logit is.

    """
    function = entropy_triton if logits.is_cuda else loops("entropy").entropy
    found: Tensor = function(logits, rows)
    return found


def measure(logits: Tensor, logit_rows: Tensor, tokens: Tensor, token_rows: Tensor) -> Tensor:
    """Measure drawn tokens that are not governed.

    Args:
        logits: As in `entropy`.
        logit_rows: `[n]`, int32 or int64: the row of logits that each token was drawn from.
        tokens: `[batch]`, int32 or int64. A token may be outside the vocabulary.
        token_rows: `[n]`, int32 or int64: where in `tokens` they are.

    Returns:
        `[n, TRACK]`, float32, as `govern` writes it: entropy, log-probability of the token (NaN
        outside the vocabulary) and top probability, NaN for what is not measured here; nothing was
        moved, closed or forced.

    """
    return measuring(logit_rows, token_rows)(logits, tokens)


def _measure_triton(
    logit_rows: Tensor, token_rows: Tensor, logits: Tensor, tokens: Tensor
) -> Tensor:
    statistics = entropy_triton(logits, logit_rows)
    own = logprobs(logits, logit_rows, tokens[token_rows], statistics)
    # T_ENTROPY, T_LOGPROB, T_TOP; then those that are measured elsewhere, and those that are 0.
    columns = [statistics[:, at.ENTROPY], own, statistics[:, at.TOP]]
    measured = torch.stack(columns, dim=1)
    padded = nn.functional.pad(measured, (0, at.T_STRENGTH - len(columns)), value=math.nan)
    return nn.functional.pad(padded, (0, at.TRACK - at.T_STRENGTH))


def logprobs(logits: Tensor, rows: Tensor, tokens: Tensor, statistics: Tensor) -> Tensor:
    """Log-probabilities of tokens, one for each of some rows of logits.

    Args:
        logits: As in `entropy`.
        rows: `[n]`, int32 or int64: which rows.
        tokens: `[n]`, int32 or int64. A token may be outside the vocabulary.
        statistics: `[n, STATISTICS]`, float32: of the rows, as `entropy` returns them.

    Returns:
        `[n]`, float32; NaN outside the vocabulary.

    """
    tokens, size = tokens.long(), logits.shape[1]
    found = logits[rows, tokens.clamp(0, size - 1)].float() - statistics[:, at.LSE]
    return torch.where((tokens >= 0) & (tokens < size), found, torch.nan)


def measuring(logit_rows: Tensor, token_rows: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """`measure` of the same rows, step after step.

    Args:
        logit_rows: As in `measure`.
        token_rows: As in `measure`.

    Returns:
        A function of logits and tokens. Its last result may be overwritten.

    """
    if logit_rows.is_cuda:
        return functools.partial(_measure_triton, logit_rows, token_rows)
    found: Callable[[Tensor, Tensor], Tensor] = loops("entropy").Measuring(logit_rows, token_rows)
    return found


def entropy_triton(logits: Tensor, rows: Tensor) -> Tensor:
    """`entropy` by the kernel, whatever the device of its tensors."""
    out = torch.empty(len(rows), at.STATISTICS, dtype=torch.float32, device=logits.device)
    if not len(rows):
        return out
    size = logits.shape[1]
    width, count = _split(size, len(rows))
    parts = torch.empty(len(rows), count, 3, dtype=torch.float32, device=logits.device)
    _parts_kernel[(len(rows), count)](
        logits,
        logits.stride(0),
        rows,
        parts,
        size,
        width,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    _whole_kernel[(len(rows),)](
        parts,
        out,
        count,
        BLOCK=triton.next_power_of_2(count),
        LAYOUT=at.FINGERPRINT,
        num_warps=1,
    )
    return out


def _split(size: int, rows: int) -> tuple[int, int]:
    """The width of a part of so many rows of this size, and how many parts make a row."""
    blocks = triton.cdiv(size, BLOCK)
    width = triton.cdiv(blocks, min(blocks, triton.cdiv(_PROGRAMS, rows))) * BLOCK
    return width, triton.cdiv(size, width)


def kinds(size: int, most: int) -> list[int]:
    """Numbers of rows, up to `most`, with which `entropy_triton` meets all that it compiles for
    rows of this size."""
    found: dict[int, int] = {}
    for rows in range(1, most + 1):
        found.setdefault(triton.next_power_of_2(_split(size, rows)[1]), rows)
    return list(found.values())
