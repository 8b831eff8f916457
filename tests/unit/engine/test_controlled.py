from types import SimpleNamespace
from typing import Any

import numpy as np

from steersman.engine.batch import NOBODY, Arrival, Counted, unlisted
from steersman.engine.controlled import Controlled


def controlled(counted: dict[str, int]) -> Controlled:
    """A rank whose every step steers these requests, by their rows, and watches nobody."""
    steering: Any = SimpleNamespace(
        counted=lambda: (counted, np.zeros((len(counted), 7), np.int32)),
        finish=lambda _: None,
    )
    governor: Any = SimpleNamespace(taken=lambda: (NOBODY, None), finish=lambda _: None)
    return Controlled(steering, governor)


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
    """Whom of a request's choices an answer settles, if these are left."""
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
