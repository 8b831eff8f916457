"""A layer that computes a part of the batch is no place to steer."""

import pytest
import torch
from torch import Tensor, nn
from vllm.forward_context import (
    BatchDescriptor,
    ForwardContext,
    override_forward_context,
)

from steersman.engine.op import PartOfBatchError, Rows, check_whole, install

TOKENS, SIZE = 8, 4


def forward_pass(tokens: int | None) -> ForwardContext:
    """vLLM's forward pass of so many tokens; None where it does not say how many."""
    batch = BatchDescriptor(tokens) if tokens is not None else None
    return ForwardContext({}, {}, {}, batch_descriptor=batch)


class Part(nn.Module):
    """A decoder layer that hands on a rank's part of the batch, as under sequence parallelism."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        part = hidden[: len(hidden) // 2].clone()
        return part, part


@pytest.fixture
def layer() -> Part:
    rows = Rows(TOKENS, torch.device("cpu"))
    made = Part()
    install(made, torch.ones(1, SIZE), rows)
    rows.bank_rows[2] = 0
    rows.written(TOKENS)
    return made


def test_a_part_of_the_batch_is_refused(layer: Part) -> None:
    with override_forward_context(forward_pass(TOKENS)):
        with pytest.raises(PartOfBatchError, match="4 of the batch's 8 tokens"):
            layer(torch.zeros(TOKENS, SIZE))
        layer(torch.zeros(2 * TOKENS, SIZE))


def test_it_is_refused_in_a_compiled_layer_too(layer: Part) -> None:
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with (
        override_forward_context(forward_pass(TOKENS)),
        pytest.raises(PartOfBatchError, match="4 of the batch's 8 tokens"),
    ):
        compiled(torch.zeros(TOKENS, SIZE))


@pytest.mark.parametrize("shape", [(TOKENS, SIZE + 1), (TOKENS, 2, SIZE), (SIZE,)])
def test_another_width_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PartOfBatchError, match=r"steering needs \[tokens, 4\]"):
        check_whole(torch.zeros(shape), SIZE)


@pytest.mark.parametrize("tokens", [None, 0, TOKENS - 1, TOKENS])
def test_the_whole_batch_and_padding_pass(tokens: int | None) -> None:
    with override_forward_context(forward_pass(tokens)):
        check_whole(torch.zeros(TOKENS, SIZE), SIZE)
    check_whole(torch.zeros(TOKENS, SIZE), SIZE)
