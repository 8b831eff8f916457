"""Sums over chosen tokens, of a layer that is looked into."""

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn
from vllm.forward_context import BatchDescriptor, ForwardContext, override_forward_context

from steersman.engine.batch import Arrival, Batch
from steersman.engine.capture import SIDES, SITES, Capture
from steersman.engine.op import PartOfBatchError

SIZE, TOKENS = 8, 5


class Layer(nn.Module):
    """Hands on what its MLP makes beside the residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(SIZE, SIZE)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.mlp(hidden), hidden


@pytest.fixture
def layer() -> Layer:
    torch.manual_seed(0)
    return Layer()


def stepped(layer: Layer, weights: Tensor, hidden: Tensor, last_mlp: nn.Module | None) -> Tensor:
    """Sums captured of a request in one step: [SIDES, SIZE], at the end of the layer."""
    capture = Capture({0: layer}, {}, 0, SIZE, torch.device("cpu"), last_mlp)
    content = {"weights": weights.numpy().tobytes()}
    capture.arrive(Arrival("a", content, range(TOKENS), 0))
    spans = torch.tensor([0, TOKENS], dtype=torch.int32)
    token_ids = torch.zeros(TOKENS, dtype=torch.int32)
    capture.begin(Batch(["a"], spans, torch.arange(TOKENS), token_ids, TOKENS))
    with torch.inference_mode():
        layer(hidden)
    return load(capture.take())["sums"][SITES.index("layer"), 0]


def test_the_last_mlp_runs_for_the_chosen_tokens_alone(layer: Layer) -> None:
    hidden, weights = torch.randn(TOKENS, SIZE), torch.zeros(SIDES, TOKENS)
    weights[0, 1], weights[1, 3] = 0.5, 2.0
    wanted = stepped(layer, weights, hidden, None)
    seen: list[Tensor] = []
    forward = layer.mlp.forward
    layer.mlp.forward = lambda x: seen.append(x) or forward(x)  # type: ignore[assignment,func-returns-value]

    found = stepped(layer, weights, hidden, layer.mlp)

    assert torch.equal(seen[0], hidden[[1, 3]])
    torch.testing.assert_close(found, wanted)
    exact = hidden + torch.nn.functional.linear(hidden, layer.mlp.weight, layer.mlp.bias)
    torch.testing.assert_close(found, (weights @ exact).double(), rtol=1e-5, atol=1e-5)
    made, _ = layer(hidden)  # still in the same step
    assert made.abs().sum(dim=1).bool().tolist() == [False, True, False, True, False]


def test_a_layer_with_a_part_of_the_batch_is_refused(layer: Layer) -> None:
    forward_pass = ForwardContext({}, {}, {}, batch_descriptor=BatchDescriptor(TOKENS + 1))
    with (
        override_forward_context(forward_pass),
        pytest.raises(PartOfBatchError, match="5 of the batch's 6 tokens"),
    ):
        stepped(layer, torch.ones(SIDES, TOKENS), torch.randn(TOKENS, SIZE), None)


def test_without_chosen_tokens_it_runs_for_all(layer: Layer) -> None:
    hidden = torch.randn(TOKENS, SIZE)
    wanted = layer.mlp(hidden)
    found = stepped(layer, torch.zeros(SIDES, TOKENS), hidden, layer.mlp)
    assert not found.any()
    assert torch.equal(layer.mlp(hidden), wanted)
