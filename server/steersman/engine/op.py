"""The op `steersman::steer`, and the decoder layers that end in it.

The op is opaque to `torch.compile` and captured in CUDA graphs with the addresses of its buffers,
so after the start only the contents of the buffers change. There it is always called: a condition
in Python would be baked into the graph. Where layers run in plain Python, on a CPU in eager mode,
it is not called in a step that steers nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn

from steersman.engine.compat.forward import batch_tokens
from steersman.engine.compat.layers import Forward, stand_around
from steersman_kernels import steer as kernel
from steersman_kernels.loops import loops

# torch.library's low level: its `custom_op` costs tens of microseconds a call.
_LIBRARY: Any = torch.library.Library("steersman", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("steer(Tensor(a!) hidden, Tensor bank, Tensor bank_rows, Tensor coef) -> ()")


class PartOfBatchError(RuntimeError):
    """A layer computes other rows than those of the batch."""


def check_whole(hidden: Tensor, size: int) -> None:
    """Check that a layer's output has the rows of the batch: `bank_rows` is indexed by them.

    A part of the batch, as a rank has it under sequence parallelism, would be steered as if it were
    the batch's beginning. Where a graph is replayed, nothing is checked; but each engine runs its
    model without one first, on the largest batch, before it takes requests.

    Args:
        hidden: [tokens, size], in vLLM's forward pass or outside of one.
        size: Width that it must have.

    Raises:
        PartOfBatchError: It is not of that width, or has fewer rows than the batch has tokens.

    """
    if hidden.dim() != 2 or hidden.shape[1] != size:
        raise PartOfBatchError(
            f"a layer's output is {list(hidden.shape)}; steering needs [tokens, {size}]"
        )
    tokens = batch_tokens()
    if tokens is not None and len(hidden) < tokens:
        raise PartOfBatchError(
            f"a layer computes {len(hidden)} of the batch's {tokens} tokens, as under "
            "sequence parallelism: vectors would be added to the wrong ones"
        )


def _steer(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    check_whole(hidden, bank.shape[1])
    kernel.steer(hidden, bank, bank_rows, coef)


def _trace(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    """Trace as nothing but the change of `hidden` that the schema declares."""


for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("steer", _steer, _device)
_LIBRARY.impl("steer", _trace, "Meta")


class Rows:
    """Rows of the bank that are added to the tokens of the batch.

    Args:
        tokens: Tokens that a batch can have.
        device: Where the layers run.

    Attributes:
        bank_rows: [tokens] int32, -1 for a token that is not steered.
        coef: [tokens] float32, a factor on top of the strength that is in the row.
        eager: Whether layers that are not compiled run without graphs.
        busy: For such layers: whether the step has steered rows.

    """

    def __init__(self, tokens: int, device: torch.device) -> None:
        self.bank_rows = torch.full((tokens,), -1, dtype=torch.int32, device=device)
        self.coef = torch.ones(tokens, dtype=torch.float32, device=device)
        self.eager = device.type == "cpu"
        self.busy = False

    def written(self, tokens: int) -> None:
        """`bank_rows` and `coef` are those of a step of so many tokens."""
        if self.eager:
            self.busy = bool(self.bank_rows.numpy()[:tokens].max(initial=-1) >= 0)

    def clear(self) -> None:
        """Steer nothing."""
        self.bank_rows.fill_(-1)
        self.busy = False


def install(layer: nn.Module, bank: Tensor, rows: Rows) -> None:
    """Make a decoder layer end in the op.

    Args:
        layer: A layer that returns `hidden`, or `(hidden, residual)` whose sum is the residual
            stream; hidden is [tokens, hidden_size].
        bank: [rows, hidden_size], the layer's part of the bank.
        rows: Shared by all layers.

    """
    layer.register_buffer("steersman_bank", bank, persistent=False)
    layer.register_buffer("steersman_bank_rows", rows.bank_rows, persistent=False)
    layer.register_buffer("steersman_coef", rows.coef, persistent=False)
    layer.steersman_rows = rows  # type: ignore[assignment]
    if rows.eager:
        steer = loops("rows").steering(bank, rows.bank_rows, rows.coef)
        layer.steersman_steer = steer
    stand_around(layer, _steered)


def _steered(cls: type[nn.Module]) -> Forward:
    def forward(self: Any, *args: Any, **options: Any) -> Any:
        output = cls.forward(self, *args, **options)
        hidden = output[0] if isinstance(output, tuple) else output
        rows = self.steersman_rows
        if torch.compiler.is_compiling() or not rows.eager:
            torch.ops.steersman.steer(
                hidden, self.steersman_bank, self.steersman_bank_rows, self.steersman_coef
            )
        elif rows.busy:
            check_whole(hidden, self.steersman_bank.shape[1])
            self.steersman_steer(hidden)
        return output

    return forward
