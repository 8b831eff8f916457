"""A rank's controlled requests: what can go wrong with one is that one's alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import to_builtins
from torch import Tensor, nn

from steersman.engine import governor as governing
from steersman.engine.bank import Bank
from steersman.engine.batch import NOBODY, OVERFLOW, Arrival, Batch, Counted
from steersman.engine.controlled import Controlled
from steersman.engine.governor import Governor
from steersman.engine.health import Health
from steersman.engine.slots import Slots, SteeredTable
from steersman.engine.worker import WorkerSteering
from steersman.steering.configuration import Configuration, Term
from steersman.thinking.governing import Governing
from steersman.wire import Law, unlisted
from steersman_kernels.vocabulary import Vocabulary


def controlled(counted: dict[str, int]) -> Controlled:
    """A rank whose every step steers these requests, by their rows, and watches nobody."""
    steering: Any = SimpleNamespace(
        counted=lambda: (counted, np.zeros((len(counted), 7), np.int32)),
        finish=lambda _: None,
    )
    governor: Any = SimpleNamespace(taken=lambda: (NOBODY, None), finish=lambda _: None)
    return Controlled(steering, governor, Health(torch.device("cpu")))


def arrival(request_id: str, key: str) -> Arrival:
    return Arrival(request_id, {"key": key, "steering": None, "governing": None}, [1, 2], 0)


def keys(counted: Counted | None) -> dict[str, str]:
    assert counted is not None
    return {id_: key for id_, (key, _) in unlisted(counted.steered, 28).items()}


def test_a_batch_is_listed_once() -> None:
    rank = controlled({"a": 0, "b": 1})
    rank.arrive(arrival("a", "3"))
    rank.arrive(arrival("b", "4"))
    first, second = rank.counted(), rank.counted()
    assert keys(first) == {"a": "3", "b": "4"}
    assert first is not None
    assert second is not None
    assert first.steered is second.steered


def test_an_id_that_comes_again_reports_under_its_new_key() -> None:
    rank = controlled({"a": 0})
    for key in ("3", "4"):
        rank.arrive(arrival("a", key))
        assert keys(rank.counted()) == {"a": key}
        rank.finish("a")


def settled(*request_ids: str, choice: int | None) -> list[str]:
    """Choices of a request that an answer settles, if these are left."""
    rank = controlled({})
    found: list[str] = []
    governor: Any = rank.governor
    governor.settle = found.append
    rank.arrive(arrival("1_other", "4"))
    for request_id in request_ids:
        rank.arrive(arrival(request_id, "3"))
    rank.settle("3", choice)
    return found


def test_an_answer_settles_its_own_choice() -> None:
    assert settled("0_r", "1_r", "12_r", choice=1) == ["1_r"]
    assert settled("0_r", choice=1) == []  # it has ended, and another one is left
    assert settled("0_r", choice=None) == ["0_r"]  # so its client called it


CPU = torch.device("cpu")
HIDDEN = 4
LAW = Law("proportional", 0.5, 0.5, 0.0, 0.5, 0.0, 1.0, (0.65, 0.9), (0.0005, 0.01))


class Layer(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.clone()


class Rank:
    """One rank with a layer, a bank of two rows, and three slots."""

    def __init__(self, **options: bool) -> None:
        self.layer = Layer()
        self.steering = WorkerSteering(
            {0: self.layer},
            rows=2,
            hidden_size=HIDDEN,
            dtype=torch.float32,
            device=CPU,
            max_requests=3,
            max_tokens=16,
        )
        vocabulary = Vocabulary.of([1], [2], [], [2], bytes(8))
        self.steering.arm(vocabulary)
        self.steering.bank.load("v", {0: torch.ones(HIDDEN)})
        self.steering.bank.load("w", {0: torch.full((HIDDEN,), 1e38)})
        self.governor = Governor(3, CPU, torch.float32)
        self.governor.arm(vocabulary)
        self.controlled = Controlled(self.steering, self.governor, Health(CPU), **options)

    def arrive(self, id_: str, *terms: Term, governed: bool = True, **changes: Any) -> None:
        thinking = {**to_builtins(Governing(law=LAW, budget=4).message()), **changes}
        steering = to_builtins(Configuration.of(terms).message(2)) if terms else None
        stops = thinking.pop("stops", [7])
        governing = {"measured": True, "end": 9, "stops": stops, "thinking": thinking}
        control = {
            "key": id_,
            "origin": 2,
            "opened": True,
            "steering": steering,
            "governing": governing if governed else None,
        }
        self.controlled.arrive(Arrival(id_, control, [3, 4], 0))

    def step(self, *ids: str) -> tuple[Tensor, Counted | None]:
        """A token of each of some requests at position 2: what is added to it; and the report."""
        count = len(ids)
        batch = Batch(
            list(ids),
            query_start=torch.arange(count + 1, dtype=torch.int32),
            positions=torch.full((count,), 2),
            token_ids=torch.full((count,), 3, dtype=torch.int32),
            tokens=count,
        )
        self.controlled.begin(batch)
        hidden = self.layer(torch.zeros(count, HIDDEN))
        self.controlled.health.look(hidden.expand(count, HIDDEN))
        return hidden[:, 0], self.controlled.counted()


def raising(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no memory")


def without_a_slot(slots: Slots, key: str, give: Any = Slots.give) -> Any:
    """Fail once the request's rows of the bank are there."""
    return raising() if key == "bad" else give(slots, key)


STEPS: list[tuple[Any, str, Any]] = [
    (Bank, "_total", raising),
    (Bank, "_make_room", raising),
    (Tensor, "copy_", raising),
    (WorkerSteering, "_arrive_edited", raising),
    (SteeredTable, "add", raising),
    (Slots, "give", raising),
    (Slots, "give", without_a_slot),
    (Governor, "arrive", raising),
    (governing, "beginning", raising),
    (Health, "arrive", raising),
]


@pytest.mark.parametrize(
    ("owner", "name", "fault"), STEPS, ids=[f"{o.__name__}.{n}-{f.__name__}" for o, n, f in STEPS]
)
@pytest.mark.parametrize("terms", [("v",), ("v", "w")])
def test_an_arrival_takes_effect_as_a_whole_or_not_at_all(
    owner: Any, name: str, fault: Any, terms: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = Rank()
    asked = [Term(vector, 0.5 + place) for place, vector in enumerate(terms)]
    rank.arrive("before", Term("v", 3.0))
    expected = rank.step("before")[0]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fault)
        rank.arrive("bad", *asked)

    added, counted = rank.step("before", "bad")

    assert counted is not None
    assert counted.failed() == {"bad": "it cannot be controlled: no memory"}
    assert keys(counted).keys() == {"before"}
    assert added.tolist() == [*expected.tolist(), 0.0]
    assert rank.steering.bank.rows_in_use == 1
    assert "bad" not in rank.governor
    rank.controlled.finish("bad")
    # All that it could have taken is there for others.
    rank.arrive("after", *asked)
    rank.arrive("third", *asked)
    added, counted = rank.step("before", "after", "third")
    assert counted is not None
    assert counted.failed() == {}
    assert added[0] == expected[0]
    assert added[1] == added[2] != 0
    for id_ in ("before", "after", "third"):
        rank.controlled.finish(id_)
    assert rank.steering.bank.rows_in_use == 0


@pytest.mark.parametrize(
    ("terms", "changes"),
    [
        ((Term("v", 1e39),), {}),
        ((Term("w", 1e38),), {}),
        ((Term("v", float("nan")),), {}),
        ((Term("w", 3.0), Term("w", -3.0), Term("w", 1.0)), {}),
        ((Term("unknown", 1.0),), {}),
        ((), {"budget": 2**31}),
        ((), {"min_answer": -(2**40)}),
        ((), {"entropy_below": 1e39}),
        ((), {"law": {**to_builtins(LAW), "gain": -1e308}}),
        ((), {"law": {**to_builtins(LAW), "confidence": [0.0, 5e-324]}}),
        ((), {"law": {**to_builtins(LAW), "kind": "other"}}),
        ((), {"nudge": [3] * 17}),
        ((), {"nudge": [2**31]}),
        ((), {"law": {}}),
        ((), {"stops": [2**31]}),
        ((), {"stops": list(range(65))}),
    ],
)
def test_no_value_of_a_request_raises(terms: tuple[Term, ...], changes: dict[str, Any]) -> None:
    rank = Rank()
    rank.arrive("good", Term("v", 1.0))
    rank.arrive("bad", *terms, **changes)

    added, counted = rank.step("good", "bad")

    assert counted is not None
    assert counted.failed().keys() == {"bad"}
    assert added.tolist() == [1.0 * LAW.base, 0.0]


def test_a_rank_that_is_not_heard_lets_the_request_be_no_number() -> None:
    """The logits, on the rank that has them, then say what it cannot."""
    rank = Rank(heard=False, alone=False)
    rank.arrive("good", Term("v", 1.0), governed=False)
    rank.arrive("bad", Term("unknown", 1.0), governed=False)

    added, _ = rank.step("good", "bad")
    assert added[0] == 1.0
    assert added[1].isnan()

    rank.controlled.finish("bad")
    assert rank.step("good", "bad")[0].tolist() == [1.0, 0.0]
    rank.controlled.finish("good")
    assert rank.step("bad")[0].tolist() == [0.0]


def test_a_rank_that_is_heard_sees_what_others_spoiled() -> None:
    rank = Rank(alone=False)
    rank.arrive("good", governed=True)
    rank.arrive("bad", governed=True)
    rank.arrive("plain", governed=False)
    rank.steering.spoil("bad")

    _, counted = rank.step("good", "bad", "plain")

    assert counted is not None
    assert counted.failed() == {"bad": OVERFLOW}


@pytest.mark.parametrize("odd", [float("nan")])
def test_a_request_whose_logits_are_no_numbers_fails(odd: float) -> None:
    rank = Rank()
    for id_ in ("one", "two"):
        rank.arrive(id_, Term("v", 1.0), governed=False)

    def step(*logits: float) -> dict[str, str]:
        batch = Batch(
            ["one", "plain", "two"],
            query_start=torch.arange(4, dtype=torch.int32),
            positions=torch.full((3,), 2),
            token_ids=torch.full((3,), 3, dtype=torch.int32),
            tokens=3,
        )
        rank.controlled.begin(batch)
        rank.controlled.health.look(torch.tensor(logits).unsqueeze(1).expand(3, 8))
        rank.controlled.health.look(torch.full((9, 8), odd))  # of a prompt
        counted = rank.controlled.counted()
        return counted.failed() if counted else {}

    assert step(0.0, odd, -1.0) == {}
    assert step(0.0, odd, odd) == {"two": OVERFLOW}
    assert step(float("inf"), 0.0, 0.0) == {}
    rank.controlled.finish("two")
    assert step(odd, odd, odd) == {"one": OVERFLOW}


def test_a_step_without_steered_requests_looks_at_nothing() -> None:
    rank = Rank()
    rank.arrive("governed", governed=True)
    rank.step("governed", "plain")

    assert rank.controlled.health.taken() is None
