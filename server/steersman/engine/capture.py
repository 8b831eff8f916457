"""Sums over chosen tokens, on one rank, while the model prefills.

What is summed is the residual stream, and the input of each attention's output projection: what the
heads have gathered. Nothing is stored but sums: the memory does not depend on the number of
responses. It hooks the layers in Python, so the engine must run eagerly.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from steersman.engine.batch import Arrival, Batch
from steersman.engine.compat.layers import attention_norm, run_instead
from steersman.engine.op import check_whole
from steersman_kernels.accumulate import accumulate

SIDES = 2
"""The two sides of a contrast: plus and minus."""
SITES = ("attn", "layer")
"""The residual stream after a layer's attention has been added, and after the whole layer."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen tokens of a step.

    Attributes:
        rows: [chosen] int64, their rows in the batch.
        weights: [SIDES, chosen] float32.

    """

    rows: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of the output projections' inputs on a rank, in the order of query heads.

    Attributes:
        head_dim: Columns of a head.
        start: Where the rank's columns begin.
        size: How many it has.
        total: How many all ranks have.

    """

    head_dim: int
    start: int
    size: int
    total: int


class Capture:
    """Weighted sums over the tokens that requests choose.

    A request carries a weight for each of its tokens and each side. It is driven by the model
    runner's steps as steering is.

    Args:
        layers: The decoder layers of this rank's pipeline stage, by index.
        projections: The output projection of each layer's attention, by index; none where the
            model's heads cannot be told apart.
        columns: Columns that this rank has of their input.
        hidden_size: Width of the residual stream.
        device: The model's.
        last_mlp: The MLP of the model's last layer, if this stage has it: no token needs what it
            makes of another, so it is run for the chosen ones alone. What the model samples then
            has no meaning.

    """

    def __init__(
        self,
        layers: Mapping[int, nn.Module],
        projections: Mapping[int, nn.Module],
        columns: int,
        hidden_size: int,
        device: torch.device,
        last_mlp: nn.Module | None = None,
    ) -> None:
        self.layers = tuple(layers)
        shape = (len(SITES), len(layers), SIDES)
        # In float64: there may be millions of tokens.
        self._sums = torch.zeros(*shape, hidden_size, dtype=torch.float64, device=device)
        self._norms = torch.zeros(shape, dtype=torch.float64, device=device)
        self._squares = torch.zeros(shape, dtype=torch.float64, device=device)
        inputs = (len(projections), SIDES, columns)
        self._inputs = torch.zeros(inputs, dtype=torch.float64, device=device)
        self._weights: dict[str, Tensor] = {}
        self._chosen: Chosen | None = None
        for place, layer in enumerate(layers.values()):
            layer.register_forward_hook(partial(self._after_layer, place))
            if (attention := attention_norm(layer)) is not None:
                attention.register_forward_hook(partial(self._after_attention, place))
        for place, index in enumerate(self.layers if projections else ()):
            projections[index].register_forward_pre_hook(partial(self._before_projection, place))
        if last_mlp is not None:
            run_instead(last_mlp, lambda forward: partial(self._of_chosen, forward))

    def arrive(self, arrival: Arrival) -> None:
        """Take in a request's weights: `weights` are the bytes of [SIDES, tokens] float32.

        Raises:
            RuntimeError: A request came back: some of its tokens would count twice.

        """
        if arrival.request_id in self._weights or arrival.computed:
            raise RuntimeError("a captured request was preempted, or found tokens in the cache")
        content = arrival.message.weights
        assert content is not None
        weights = torch.frombuffer(bytearray(content), dtype=torch.float32)
        self._weights[arrival.request_id] = weights.view(SIDES, -1).to(self._sums.device)

    def finish(self, request_id: str) -> None:
        """Forget a request's weights; its sums stay."""
        self._weights.pop(request_id, None)

    def preempt(self, request_id: str) -> None:
        """A preempted request leaves; should it come back, it is refused."""

    def begin(self, batch: Batch) -> None:
        """Find the chosen tokens of a step."""
        weights = torch.zeros(SIDES, batch.tokens, device=self._sums.device)
        starts = batch.query_start[: len(batch.request_ids) + 1]
        firsts = batch.positions[starts[:-1].long()].tolist()
        spans = pairwise(starts.tolist())
        for request_id, first, (start, end) in zip(batch.request_ids, firsts, spans, strict=True):
            if (own := self._weights.get(request_id)) is not None:
                part = own[:, first : first + end - start]
                weights[:, start : start + part.shape[1]] = part
        rows = weights.any(dim=0).nonzero().squeeze(1)
        self._chosen = Chosen(rows, weights[:, rows].contiguous()) if len(rows) else None

    def rest(self) -> None:
        """Capture nothing in the next forward pass."""
        self._chosen = None

    def counted(self) -> None:
        """Nothing is reported by request."""

    def take(self) -> bytes:
        """The sums so far, as safetensors; they start anew.

        `sums` is [sites, layers, sides, hidden_size], `norms` and `squares` (weighted sums of the
        norm of the residual stream, and of its square) are [sites, layers, sides]; `inputs`, of the
        output projections, is [layers, sides, columns of this rank]; all float64.
        """
        found = {
            "sums": self._sums,
            "norms": self._norms,
            "squares": self._squares,
            "inputs": self._inputs,
        }
        content = save({name: tensor.cpu().clone() for name, tensor in found.items()})
        for tensor in found.values():
            tensor.zero_()
        return content

    def _after_layer(self, place: int, _: nn.Module, __: Any, output: Any) -> None:
        hidden, residual = output if isinstance(output, tuple) else (output, None)
        self._add(SITES.index("layer"), place, hidden, residual)

    def _after_attention(self, place: int, _: nn.Module, __: Any, output: Any) -> None:
        # vLLM's norms add the residual stream first, and return (normed, residual stream).
        if isinstance(output, tuple):
            self._add(SITES.index("attn"), place, output[1], None)

    def _before_projection(self, place: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._chosen is not None:
            rows, weights = self._chosen.rows, self._chosen.weights
            accumulate(inputs[0], None, rows, weights, self._inputs[place])

    def _of_chosen(self, forward: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        if self._chosen is None:
            return forward(hidden)
        rows = self._chosen.rows
        found = forward(hidden.index_select(0, rows))
        return found.new_zeros(len(hidden), found.shape[1]).index_copy_(0, rows, found)

    def _add(self, site: int, place: int, hidden: Tensor, residual: Tensor | None) -> None:
        if self._chosen is not None:
            check_whole(hidden, self._sums.shape[-1])
            rows, weights = self._chosen.rows, self._chosen.weights
            moments = (self._norms[site, place], self._squares[site, place])
            accumulate(hidden, residual, rows, weights, self._sums[site, place], moments)


class CaptureRing:
    """The calls that `collective_rpc` makes on a rank that captures.

    Args:
        capture: The sums that it takes.
        columns: This rank's columns of the output projections' input, or why they are not known.

    """

    def __init__(self, capture: Capture, columns: Columns | str) -> None:
        self._capture = capture
        self._columns = columns

    def layers(self) -> tuple[int, ...]:
        """The decoder layers of this rank."""
        return self._capture.layers

    def columns(self) -> dict[str, int] | str:
        """The fields of `Columns`, or why there are none."""
        return self._columns if isinstance(self._columns, str) else asdict(self._columns)

    def take(self) -> bytes:
        """See `Capture.take`."""
        return self._capture.take()
