import pytest
import torch
from torch import Tensor, nn

from steersman.engine.compat.residuals import Residuals


class Layer(nn.Module):
    """A decoder layer that returns (hidden, residual), of which the stream is the sum."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, 2 * hidden


class Model(nn.Module):
    """Two layers, in a module that vLLM compiles: it runs no hooks unless it runs as Python."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.do_not_compile = False

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            run = layer if self.do_not_compile else layer.forward
            hidden = sum(run(hidden))
        return hidden


def measure(model: Model, residuals: Residuals, *passes: Tensor) -> dict[int, float]:
    residuals.start(3)
    for hidden in passes:
        model(hidden)
    return residuals.take()


HIDDEN = torch.tensor([[1e4, 0.0], [3.0, 4.0], [0.0, 7.0], [torch.nan, 0.0]])


def test_the_mean_norm_of_a_prompt_without_its_first_token() -> None:
    model = Model()
    residuals = Residuals(dict(enumerate(model.layers)), model)

    norms = measure(model, residuals, torch.ones(2, 2), HIDDEN, torch.ones(4, 2))

    assert norms == pytest.approx({0: 3 * 6.0, 1: 9 * 6.0})
    assert not model.do_not_compile
    model(HIDDEN)
    assert residuals.take() == {}


def test_where_no_pass_is_seen_nothing_is_said() -> None:
    model = Model()
    assert measure(model, Residuals(dict(enumerate(model.layers)), model)) == {}
