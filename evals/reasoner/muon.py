"""Muon: momentum whose matrix updates are made nearly orthogonal (Jordan et al., 2024)."""

from collections.abc import Iterable

import torch
from torch import Tensor

# The quintic of the reference implementation, and its number of rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
# Scales an orthogonal update to the root mean square of a typical AdamW update (2502.16982, §2.2).
_ADAMW_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """For the matrices inside the layers; embeddings and norms belong to AdamW.

    `torch.optim.Muon` computes the same in bfloat16, which CPUs without bfloat16 units do 20 times
    slower than float32.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update with Nesterov momentum of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(average, group["momentum"]))
                scale = _ADAMW_RMS * max(parameter.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end in about 0.7 … 1.2.

    `matrix` is [rows, columns], float32; the result has its shape.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
