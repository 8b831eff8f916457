"""Definitions of the kernels that compute with reals, in plain PyTorch.

It also serves on a CPU where the numbers are of a type that the loops do not know. What the gate
and the governor do is defined by their loops.
"""

import torch
from torch import Tensor


def steer_reference(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    """Define `steer`, on any device. It reads `bank_rows` on the host, so no graph captures it."""
    rows, chosen, factors = _chosen(bank_rows, coef, len(hidden))
    change = bank[chosen].float() * factors
    hidden[rows] = (hidden[rows].float() + change).to(hidden.dtype)


def project_reference(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, bank_rows: Tensor, coef: Tensor
) -> None:
    """Define `project`, on any device. It reads `bank_rows` on the host: no graph captures it."""
    rows, chosen, factors = _chosen(bank_rows, coef, len(output))
    products = (inputs[rows].float() * read[chosen].float()).sum(1, keepdim=True)
    change = products * factors * write[chosen].float()
    output[rows] = (output[rows].float() + change).to(output.dtype)


def _chosen(bank_rows: Tensor, coef: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows whose bank row is not negative: [rows] int64, their bank rows, and [rows, 1] factors."""
    rows = (bank_rows[:tokens] >= 0).nonzero().squeeze(1)
    return rows, bank_rows[rows], coef[rows].unsqueeze(1)


def entropy_reference(logits: Tensor, rows: Tensor) -> Tensor:
    """Define `entropy`, on any device. It looks on the host whether tokens are masked."""
    chosen = logits.index_select(0, rows).float()
    top = chosen.amax(dim=1, keepdim=True)
    gaps = chosen - top
    share = gaps.softmax(dim=1)
    most = share.amax(dim=1)
    spread = torch.linalg.vecdot(share, gaps)
    if spread.isnan().any():  # 0 times infinity, where tokens are masked
        spread = torch.linalg.vecdot(share, gaps.clamp(min=torch.finfo(torch.float32).min))
    # The largest stays out of a sum of the rest: nothing is lost where it has nearly all the mass.
    others = gaps.sign()
    rest = -torch.linalg.vecdot(share, others)
    largest = others.sum(dim=1) + others.shape[1]
    log = torch.where(rest < 0.5, rest.neg().log1p() - largest.log(), most.log())
    return torch.stack([top[:, 0] - log, -spread - log, most], dim=1)


def accumulate_reference(
    hidden: Tensor,
    residual: Tensor | None,
    rows: Tensor,
    weights: Tensor,
    sums: Tensor,
    moments: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Define `accumulate`, on any device."""
    stream = hidden.index_select(0, rows).float()
    if residual is not None:
        stream += residual.index_select(0, rows).float()
    sums += weights @ stream
    if moments is not None:
        norms = stream.norm(dim=1)
        for total, values in zip(moments, (norms, norms.square()), strict=True):
            total += weights @ values
