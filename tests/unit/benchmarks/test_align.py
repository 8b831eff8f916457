"""Numbers of the benchmark of `align`, from receipts."""

from dataclasses import replace
from typing import Any

import pytest

from steersman.reward import pattern
from steersman_client import ControlSpec
from tests.unit.benchmarks.scripts import script

align: Any = script("align")
puzzles: Any = script("puzzles")


def answer(steps: int, acceptance: float, sequential: int) -> dict[str, Any]:
    search = {
        "steps": steps,
        "acceptance": acceptance,
        "resampled_tokens": 30 * steps,
        "reused_tokens": 20 * steps,
        "launched": steps + 1,
    }
    compute = {"sampled_tokens": 500, "sequential_tokens": sequential, "prefill_tokens": 170}
    return {"control": {"applied": {"search": search}, "compute": compute}}


def test_receipts_of_requests_side_by_side_are_added_up() -> None:
    spent = align.Spent.of(2.0, [answer(10, 0.3, 400), answer(20, 0.7, 300)])
    assert spent == align.Spent(2.0, 30, 17, 1000, 900, 600, 400, 340, 32)


def test_the_bound_is_a_ratio_of_tokens_that_wait_and_the_share_that_of_seconds_to_it() -> None:
    alone = align.Spent.of(6.0, [answer(10, 0.5, 600)])
    pairs = [(alone, replace(alone, seconds=4.0, sequential=300))] * 4
    assert align.faster(pairs) == 1.5
    assert align.bound(pairs) == 2.0
    assert align.share(pairs) == 0.75
    assert align.estimate(pairs, align.share) == {"ratio": 0.75, "interval": [0.75, 0.75]}


def test_an_interval_holds_the_ratio_and_is_of_the_pairs() -> None:
    alone = align.Spent.of(6.0, [answer(10, 0.5, 600)])
    pairs = [(alone, replace(alone, seconds=seconds)) for seconds in (2.0, 3.0, 4.0, 3.0)]
    found = align.estimate(pairs, align.faster)
    low, high = found["interval"]
    assert 1.5 < low < found["ratio"] == 2.0 < high < 3.0


def test_the_report_has_a_row_for_each_number_of_chains_and_each_target() -> None:
    spent = align.Spent.of(6.0, [answer(10, 0.5, 600)])
    slower = align.lockstep.Walked(12.0, 10, 6, 700, [])
    found = {
        "chains": align.compared_lockstep({8: [(spent, slower)] * 2}),
        "look_ahead": align.compared_ahead({"power 4": [(spent, spent)] * 2}),
    }
    assert found["chains"]["8"]["steps_a_second_over_lockstep"]["ratio"] == 2.0
    assert found["look_ahead"]["power 4"]["prefilled_a_response"]["mean"] == 15.45
    assert found["look_ahead"]["power 4"]["same_chains"] == 2
    assert list(align.rows(found)) == [
        "| 8 chains: steps a second, over lock-step (0.83) | 2 (2–2) | ≥ 1.5 |",
        "| one chain, power 4 (acceptance 0.50): look-ahead over none | 1 (1–1), of at most 1: "
        "1 (1–1) of it | ≥ 0.8 of it |",
        "| a step of power 4: tokens sampled, kept; prefilled | 30, 20; 15.4 | prefilled < 32 |",
    ]


@pytest.mark.parametrize("name", [align.POWER, align.REWARD, align.LIKELIHOOD])
def test_targets_are_what_a_request_may_ask_for(name: str) -> None:
    target = align.target(name, puzzles.chosen(1)[0])
    control = ControlSpec.model_validate({"search": {"method": "align", "target": target}})
    assert control.search is not None
    assert (control.search.target.power is None) is (name != align.POWER)


@pytest.mark.parametrize("problem", puzzles.chosen(20), ids=lambda one: one.id)
def test_the_right_answer_alone_matches(problem: Any) -> None:
    search = pattern.compiled(align.regex(problem)).search
    assert search(f"The answer is \\boxed{{{problem.answer}}}.") is not None
    assert search(f"The answer is \\boxed{{{problem.answer}0}}.") is None
