"""The self-test of a rank must fail whenever steering does not do what it says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from steersman.engine.controlled import Controlled
from steersman.engine.governor import Governor
from steersman.engine.health import Health
from steersman.engine.ring import Refused, Ring, SelfTestError
from steersman.engine.worker import WorkerSteering

HIDDEN = 6


class Layer(nn.Module):
    """A decoder layer that returns (hidden, residual)."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden.clone(), hidden


class Model:
    """Two layers, and a decode batch of equal tokens."""

    def __init__(self) -> None:
        self.layers: dict[int, nn.Module] = {0: Layer(), 1: Layer()}
        self.steering = WorkerSteering(
            self.layers,
            rows=2,
            hidden_size=HIDDEN,
            dtype=torch.float32,
            device=torch.device("cpu"),
            max_requests=8,
            max_tokens=16,
        )
        self.steering.arm(-1, -1, bytes(10))

    def decode(self, requests: int) -> Tensor:
        hidden = torch.full((requests, HIDDEN), -0.0)
        for layer in self.layers.values():
            hidden = layer(hidden)[0]
        return hidden


def ring(model: Model, decode: Callable[[int], Tensor | None]) -> Ring:
    cpu = torch.device("cpu")
    controlled = Controlled(model.steering, Governor(8, cpu, torch.float32), Health(cpu))
    return Ring(controlled, "V1", decode, max_requests=8, live="nothing to edit")


def test_steering_that_works_passes_and_leaves_nothing_behind() -> None:
    model = Model()

    ring(model, model.decode).self_test()

    assert model.steering.bank.rows_in_use == 0
    assert torch.equal(model.steering.rows.slot, torch.full((16,), -1, dtype=torch.int32))
    assert model.steering.counted() == ({}, None)
    assert torch.signbit(model.decode(4)).all()


def test_a_model_that_does_not_feel_the_op_fails() -> None:
    model = Model()

    with pytest.raises(SelfTestError, match="a row that is steered did not change"):
        ring(model, lambda requests: torch.zeros(requests, HIDDEN)).self_test()


def test_a_model_in_which_all_rows_feel_it_fails() -> None:
    model = Model()

    def spill(requests: int) -> Tensor:
        return model.decode(requests).roll(1, dims=0) + model.decode(requests)

    with pytest.raises(SelfTestError, match="a row that is not steered changed"):
        ring(model, spill).self_test()


def test_one_bit_in_another_row_is_enough_to_fail() -> None:
    model = Model()

    def nudge(requests: int) -> Tensor:
        hidden = model.decode(requests) + 1.0
        if model.steering.rows.slot[0] >= 0:
            hidden[1, 3] = torch.nextafter(hidden[1, 3], torch.tensor(9.0))
        return hidden

    with pytest.raises(SelfTestError, match="a row that is not steered changed"):
        ring(model, nudge).self_test()


def test_a_stage_without_output_passes() -> None:
    model = Model()

    ring(model, lambda _: None).self_test()

    assert model.steering.bank.rows_in_use == 0
    assert model.steering.counted() == ({}, None)


def test_a_rank_that_cannot_steer_says_why_to_every_call() -> None:
    with pytest.raises(RuntimeError, match="two lists of layers"):
        Refused("two lists of layers").arm([], [], [], [], b"")
