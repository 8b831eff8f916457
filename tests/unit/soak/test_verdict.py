"""Criteria of a soak, on runs that meet them and runs that do not."""

import json
import math
from pathlib import Path

import pytest

from tests.fuzz.invariants import Violation
from tests.soak import picture, verdict
from tests.soak.mix import CONTROLS
from tests.soak.report import result
from tests.soak.run import Options, Seen
from tests.unit.soak import made_up


def by_name(run: Seen) -> dict[str, str]:
    return {one.name: one.holds for one in verdict.judged(run, {}, [])}


def broken(run: Seen) -> list[str]:
    """Criteria that do not hold."""
    return [name for name, holds in by_name(run).items() if holds != "holds"]


def test_a_good_run_passes() -> None:
    run = made_up.seen()
    findings = verdict.judged(run, {}, [])
    assert [one for one in findings if one.holds != "holds"] == []
    assert verdict.passed(findings)
    memory = [one.name for one in findings if one.name.startswith("memory of ")]
    assert [name.split()[2] for name in memory] == [
        "server",
        "VLLM::EngineCore",
        "VLLM::Worker",
        "all",
    ]


def test_what_grows_in_the_warm_up_alone_is_no_leak() -> None:
    assert broken(made_up.seen(lambda time: 300 * (1 - math.exp(-time / 100)))) == []


def test_a_leak_is_found_in_the_process_that_has_it() -> None:
    """60 MiB an hour, after a warm-up of ten minutes."""
    run = made_up.seen(lambda time: 60 * time / 3600)
    found = [name for name in broken(run) if name.startswith("memory of")]
    assert [name.split()[2] for name in found] == ["VLLM::Worker", "all"]
    assert by_name(run)[found[0]] == "broken"


def test_a_step_that_could_be_a_leak_is_undecided() -> None:
    run = made_up.seen(lambda time: 12.0 * (time > 1300))
    (worker,) = [name for name in by_name(run) if "VLLM::Worker" in name]
    assert by_name(run)[worker] == "undecided"


def test_latencies_that_rise_are_found() -> None:
    steady = made_up.seen(slower=lambda time: 1.0 + 0.1 * math.sin(time / 50))
    assert broken(steady) == []
    rising = made_up.seen(slower=lambda time: 1.0 + time / 900)
    assert [by_name(rising)[name] for name in broken(rising)] == ["broken"]
    assert "latency" in broken(rising)[0]


def test_a_change_of_the_mix_is_no_change_of_the_latency() -> None:
    """Each kind is slower than the one before it; in the second half only slow ones come."""
    run = made_up.seen()
    slow = [*CONTROLS][-4:]
    run.asked[:] = [
        one for one in run.asked if one.ended < 1200 or one.kind in slow or one.ended % 7 < 1
    ]
    assert not [name for name in broken(run) if "latency" in name]


@pytest.mark.parametrize(
    ("held", "changed"),
    [({"vllm:num_requests_running": 1.0}, []), ({}, [Violation("changed answer", "3+4=8")])],
)
def test_what_is_left_behind_is_found(held: dict[str, float], changed: list[Violation]) -> None:
    findings = verdict.judged(made_up.seen(), held, changed)
    (one,) = [one for one in findings if one.holds != "holds"]
    assert one.holds == "broken"
    assert one.detail in ("vllm:num_requests_running 1", "3+4=8")


def test_one_lost_receipt_is_enough() -> None:
    run = made_up.with_fault(made_up.seen(), "no receipt: a 200 without a receipt")
    (one,) = [one for one in verdict.judged(run, {}, []) if one.holds != "holds"]
    assert (one.holds, one.detail) == (
        "broken",
        "1 × plain: no receipt: a 200 without a receipt",
    )


def test_a_dead_server_is_found() -> None:
    run = made_up.seen()
    run.died = 900.0
    assert by_name(run)["the server lives"] == "broken"


def test_nothing_is_shown_by_what_did_not_happen() -> None:
    never = [
        made_up.seen(kills=()),
        *(made_up.seen() for _ in range(2)),
    ]
    never[1].asked[:] = [one for one in never[1].asked if not one.cut]
    never[2].asked[:] = [one for one in never[2].asked if one.kind != "cautious"]
    for run in never:
        assert by_name(run)["all kinds of requests and ends"] == "undecided"
    assert set(by_name(Seen(seconds=60.0)).values()) == {"holds", "undecided"}
    assert not verdict.passed(verdict.judged(Seen(seconds=60.0), {}, []))


@pytest.mark.parametrize("run", [made_up.seen(), Seen(seconds=60.0)], ids=["whole", "empty"])
def test_a_result_is_json_and_a_picture(run: Seen, tmp_path: Path) -> None:
    findings = verdict.judged(run, {}, [])
    made = result(run, Options(run.seconds, 1), findings, {"cores": 2})
    kept = json.loads(json.dumps(made))
    assert kept["passed"] == verdict.passed(findings)
    assert sum(kept["by_kind"].values()) == kept["requests"] == sum(kept["requests_by_minute"])
    for one in kept["memory"].values():
        assert one["interval"][0] <= one["mib_an_hour"] <= one["interval"][1]
        assert 0 < len(one["series"]) <= 60
    path = tmp_path / "pictures/soak.png"
    picture.draw(kept, path)
    assert path.read_bytes().startswith(b"\x89PNG")
