"""Report of a finished run, from records whose truth is known."""

import numpy as np
import pytest

from steersman.evaluate.report import Report, summarise
from tests.unit.evaluate.made_up import problems, receipt, record, spec


def report(accuracies: dict[str, float], count: int = 200, samples: int = 2) -> Report:
    """A run in which `cheap` and `dear` cost one and four times the baseline's tokens."""
    rng = np.random.default_rng(0)
    run = spec(controls=dict.fromkeys(accuracies), samples=samples)
    asked = problems(count)
    records = [
        record(
            control,
            problem.id,
            sample,
            right=bool(rng.random() < accuracy),
            completion_tokens=100,
            receipt=None if control == "single" else receipt(400 if control == "dear" else 100),
            latency_seconds=2.0 if control == "dear" else 1.0,
            finish_reason="length" if sample == 1 else "stop",
        )
        for control, accuracy in accuracies.items()
        for problem in asked
        for sample in range(samples)
    ]
    return summarise(run, "tiny", asked, reversed(records))


def test_a_control_is_called_what_it_is() -> None:
    found = report({"dear": 0.8, "single": 0.5, "cheap": 0.5, "bad": 0.2})
    verdicts = {name: one.verdict for name, one in found.comparisons.items()}
    assert verdicts == {"dear": "better", "cheap": "indistinguishable", "bad": "worse"}
    assert found.comparisons["dear"].accuracy.value == pytest.approx(0.3, abs=0.07)
    assert found.comparisons["dear"].sampled_tokens.value == 4.0
    assert found.comparisons["dear"].seconds_p50.value == 2.0
    assert found.pareto == ("single", "dear") or found.pareto == ("cheap", "dear")


def test_the_numbers_of_a_control_are_those_of_its_records() -> None:
    run = spec(samples=2)
    asked = problems(2)
    right = {("single", 0, 0), ("single", 0, 1), ("search", 1, 1)}
    records = [
        record(
            control,
            f"p{i}",
            sample,
            right=(control, i, sample) in right,
            completion_tokens=10 * i + sample,
            receipt=receipt(50) if control == "search" else None,
            thinking_tokens=3 if control == "single" else 6,
            latency_seconds=1 + i + sample,
        )
        for control in ("search", "single")
        for i in range(2)
        for sample in range(2)
    ]
    found = summarise(run, "tiny", asked, records)
    single, search = found.controls["single"], found.controls["search"]
    assert (single.accuracy.value, search.accuracy.value) == (0.5, 0.25)
    assert single.groups == {"group 0": 1.0, "group 1": 0.0}
    assert (single.sampled_tokens.value, search.sampled_tokens.value) == (5.5, 50)
    assert single.returned_tokens.value == search.returned_tokens.value == 5.5
    assert single.thinking_tokens is not None
    assert single.thinking_tokens.value == 3
    assert (single.seconds_p50.value, single.seconds_p95.value) == (2, 3)
    comparison = found.comparisons["search"]
    assert (comparison.better, comparison.worse) == (1, 2)
    assert comparison.p_value == 1.0
    assert comparison.accuracy.value == -0.25
    assert comparison.thinking_tokens is not None
    assert comparison.thinking_tokens.value == 2
    assert comparison.shortest_tenth is None
    assert found.lengths is None


def test_responses_that_were_cut_off_are_counted() -> None:
    assert report({"single": 0.5}, count=10).controls["single"].cut_off == 0.5


def test_thinking_that_is_not_counted_has_no_mean() -> None:
    records = [record(thinking_tokens=None), record("search", thinking_tokens=None)]
    found = summarise(spec(), "tiny", problems(1), records)
    assert found.controls["single"].thinking_tokens is None
    assert found.comparisons["search"].thinking_tokens is None


def test_many_comparisons_make_each_harder_to_win() -> None:
    def adjusted(others: int) -> float:
        right = [0] * 9 + [1] * 22
        names = ["single", "gain", *(f"same {i}" for i in range(others))]
        records = [
            record(name, f"p{i}", right=bool(gained) == (name == "gain"))
            for name in names
            for i, gained in enumerate(right)
        ]
        run = spec(controls=dict.fromkeys(names))
        comparison = summarise(run, "tiny", problems(31), records).comparisons["gain"]
        assert comparison.p_value == pytest.approx(0.0294, abs=1e-4)
        assert comparison.verdict == ("indistinguishable" if others else "better")
        return comparison.p_adjusted

    assert adjusted(1) == pytest.approx(2 * adjusted(0))
