"""Turns of a plain client beside a greedy one, and the ratio of their latencies."""

import json
from pathlib import Path
from typing import Any

from steersman.keys import file
from steersman_client import ControlSpec
from tests.unit.benchmarks.scripts import script

starving: Any = script("starving")


def answered(*seconds: float) -> tuple[list[Any], float]:
    return [starving.Answered(one / 10, one) for one in seconds], 100.0


def test_each_has_a_turn_in_each_round_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def take(name: str, turn: int) -> int:
        order.append(name)
        return turn

    taken = starving.in_turns(["a", "b", "c"], take, 4)
    assert [sorted(order[i : i + 3]) for i in range(0, 15, 3)] == [["a", "b", "c"]] * 5
    assert len({tuple(order[i : i + 3]) for i in range(0, 15, 3)}) > 1
    assert sorted(turn for turns in taken.values() for turn in turns) == [*range(3, 15)]
    assert all(order[turn] == name for name, turns in taken.items() for turn in turns)


def test_the_percentile_is_of_all_rounds_together() -> None:
    values = [float(number) for number in range(101)]
    assert starving.p95([values[:30], values[30:]]) == 95.0


def test_a_ratio_has_an_interval_over_the_rounds() -> None:
    base = [[1.0] * 10, [1.1] * 10, [1.2] * 10]
    same = starving.compared(base, base)
    assert same == {"ratio": 1.0, "interval": [1.0, 1.0]}
    slower = [[2.0] * 10, [2.2] * 10, [3.6] * 10]
    found = starving.compared(slower, base)
    low, high = found["interval"]
    assert 2.0 <= low < found["ratio"] == 3.0 <= high


def test_the_summary_has_the_aim_at_the_greedy_client_alone() -> None:
    taken = {
        name: [answered(*(place + number / 20 for number in range(1, 21)))] * 3
        for place, name in enumerate(starving.COMPANY, start=1)
    }
    found = starving.summary(taken, starving.BASE)
    assert list(found) == list(starving.COMPANY)
    assert [("p95" in one, "aim" in one) for one in found.values()] == [
        (False, False),
        (True, True),
        (True, False),
    ]
    for one in found.values():
        assert one["requests"] == 60
        assert one["company_tokens_per_second"] == 100.0
    assert 1 < found["beside one client with n = 16"]["p95"]["ratio"] < 2


def test_the_company_is_what_it_is_called(tmp_path: Path) -> None:
    base, greedy, limited = starving.COMPANY.values()
    assert (base.clients, greedy.clients, limited.clients) == (16, 1, 4)
    branches = [
        ControlSpec.model_validate(one.fields["control"]).model_dump()["search"]["n"]
        for one in (greedy, limited)
    ]
    assert branches == [16, 4]
    path = tmp_path / "keys.yaml"
    path.write_text(json.dumps(starving.KEYS))
    limits = {key.name: key.limits for key in file.load(path)}
    assert limits["limited"].fan_out == branches[1]
    assert not limits["greedy"]
