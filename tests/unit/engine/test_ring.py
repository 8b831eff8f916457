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
from steersman_kernels.vocabulary import Vocabulary
from tests.unit.engine.layers import Layer

HIDDEN = 6


class Model:
    """Two layers, and a decode batch of equal tokens."""

    def __init__(self) -> None:
        self.layers: dict[int, nn.Module] = {0: Layer(), 1: Layer()}
        self.steering = WorkerSteering(
            self.layers,
            rows=4,
            hidden_size=HIDDEN,
            dtype=torch.float32,
            device=torch.device("cpu"),
            max_requests=8,
            max_tokens=16,
        )
        self.steering.arm(Vocabulary.of((), (), boundary=bytes(10)))

    def decode(self, requests: int) -> Tensor:
        return self.run(torch.full((requests, HIDDEN), -0.0))

    def run(self, hidden: Tensor) -> Tensor:
        for layer in self.layers.values():
            hidden = layer(hidden)[0]
        return hidden


def ring(model: Model, decode: Callable[[int], Tensor | None], *, max_requests: int = 8) -> Ring:
    cpu = torch.device("cpu")
    controlled = Controlled(model.steering, Governor(8, cpu, torch.float32), Health(cpu))
    return Ring(controlled, "V1", decode, max_requests, live="nothing to edit")


def test_steering_that_works_passes_and_leaves_nothing_behind() -> None:
    model = Model()

    ring(model, model.decode).self_test()

    assert model.steering.bank.rows_in_use == 0
    assert torch.equal(model.steering.rows.bank_rows, torch.full((16,), -1, dtype=torch.int32))
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
        if model.steering.rows.bank_rows[0] >= 0:
            hidden[1, 3] = torch.nextafter(hidden[1, 3], torch.tensor(9.0))
        return hidden

    with pytest.raises(SelfTestError, match="a row that is not steered changed"):
        ring(model, nudge).self_test()


def in_chunks(size: int) -> Callable[[Model, Tensor], Tensor]:
    """Each rank has so many rows of the batch, and takes them for its beginning."""
    return lambda model, hidden: torch.cat([model.run(part) for part in hidden.split(size)])


def shifted(by: int) -> Callable[[Model, Tensor], Tensor]:
    """The rows stand elsewhere in the batch than the steering thinks."""
    return lambda model, hidden: model.run(hidden.roll(by, dims=0)).roll(-by, dims=0)


@pytest.mark.parametrize(
    "wrong",
    [
        *(pytest.param(in_chunks(size), id=f"chunks of {size}") for size in (1, 2, 3, 4, 6)),
        *(pytest.param(shifted(by), id=f"shifted by {by}") for by in range(1, 8)),
    ],
)
def test_rows_that_are_not_where_they_should_be_fail(
    wrong: Callable[[Model, Tensor], Tensor],
) -> None:
    model = Model()

    with pytest.raises(SelfTestError):
        ring(model, lambda requests: wrong(model, torch.zeros(requests, HIDDEN))).self_test()


@pytest.mark.parametrize("wrong", [in_chunks(2), in_chunks(4)])
def test_in_a_regular_pattern_the_right_rows_would_change(
    wrong: Callable[[Model, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steersman.engine.ring._CHANGED", (0, 2, 4, 6))
    model = Model()

    with pytest.raises(SelfTestError, match="as another one should be"):
        ring(model, lambda requests: wrong(model, torch.zeros(requests, HIDDEN))).self_test()


@pytest.mark.parametrize("probes", range(1, 9))
def test_fewer_requests_are_enough(probes: int) -> None:
    model = Model()

    ring(model, model.decode, max_requests=probes).self_test()

    with pytest.raises(SelfTestError, match="did not change"):
        ring(model, lambda n: torch.zeros(n, HIDDEN), max_requests=probes).self_test()


class Noisy:
    """A model whose sums come out a little different in each run, as on a GPU."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, requests: int) -> Tensor:
        hidden = self._model.decode(requests)
        return hidden + 1e-3 * torch.rand(hidden.shape, generator=self._generator)


def test_the_noise_of_plain_runs_is_no_failure() -> None:
    model = Model()

    ring(model, Noisy(model)).self_test()


def test_more_than_the_noise_is_a_failure() -> None:
    model = Model()
    noisy = Noisy(model)

    def nudge(requests: int) -> Tensor:
        hidden = noisy(requests)
        hidden[1, 3] += 0.01 * (model.steering.rows.bank_rows[0] >= 0)
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
