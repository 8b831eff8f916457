"""Metrics of requests that have ended, and of what they share."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from steersman.controls.control import Part
from steersman.controls.monitor import MonitorPart
from steersman.controls.search import SearchPart
from steersman.controls.thinking import ThinkingPart
from steersman.digests import KINDS, digests, number
from steersman.errors import ControlError
from steersman.following import Follower
from steersman.ledger import Ledger
from steersman.observe.metrics import Metrics
from steersman.plan import Plan
from steersman.profiles import Profile
from steersman.request import Endpoint, Request
from steersman.reward.rewards import Rewards
from steersman.search.first_finish import FirstFinishPolicy
from steersman.steering.admission import Admission
from steersman.steering.desk import Desk
from steersman.thinking.governing import Governing
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import ABORTED, Prefix, Start, Trajectory
from steersman_client import ChainStep, FirstFinish
from tests.unit.reward.made_up import MadeUp
from tests.unit.samples import total
from tests.unit.servers import MARKERS
from tests.unit.tracks import packed


def books() -> Ledger:
    """A search whose second branch won, and a turn in which nothing was sampled."""
    ledger = Ledger()
    values = [
        packed(0.5),
        packed(9.0),
        packed(1.0, closed_by=2, forced=1),
        packed(0.01, closed_by=2),
    ]
    search, turn = ledger.open(Reading(MARKERS, opened=True)), ledger.open()
    for branch in range(2):
        search.branches.append(Trajectory(Start(branch), track=Track([7, 8, 2, 9], values)))
    search.outcome = Outcome((search.branches[1],), "first")
    turn.branches.append(Trajectory(Start(0), track=Track()))
    return ledger


pytestmark = pytest.mark.anyio

GOVERNED = ThinkingPart(Governing(budget=2), MARKERS)
MONITORED = MonitorPart(tokens=False, markers=MARKERS)


def plan(*parts: Part, profile: str | None = None) -> Plan:
    return Plan(Request(Endpoint.CHAT), 1000, profile, parts)


def test_what_closed_the_thinking_of_returned_choices() -> None:
    registry = CollectorRegistry()
    Metrics(registry).closed(plan(GOVERNED), books(), "ok")

    def closed(by: str) -> float:
        return total(registry, "steersman_thinking_closed_total", closed_by=by)

    assert closed("budget") == closed("none") == 1
    assert total(registry, "steersman_thinking_tokens_total") == 2
    assert total(registry, "steersman_forced_tokens_total") == 1


def test_entropies_by_phase() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for _ in range(2):
        metrics.closed(plan(MONITORED), books(), "ok")

    def sample(name: str, **labels: str) -> float:
        return total(registry, f"steersman_token_entropy_nats_{name}", **labels)

    assert sample("count", phase="thinking") == 4
    assert sample("sum", phase="thinking") == 19.0
    assert sample("bucket", phase="thinking", le="0.2") == 0
    assert sample("bucket", phase="thinking", le="0.5") == 2
    assert sample("bucket", phase="thinking", le="8.0") == 2
    assert sample("bucket", phase="thinking", le="+Inf") == 4
    assert sample("bucket", phase="answer", le="0.01") == 2


def test_entropies_of_another_distribution_are_not_counted() -> None:
    registry = CollectorRegistry()
    of_processed = MonitorPart(tokens=False, markers=MARKERS, of="processed")
    Metrics(registry).closed(plan(of_processed), books(), "ok")
    assert total(registry, "steersman_token_entropy_nats_count") == 0


def test_a_request_that_asked_for_neither_is_not_counted() -> None:
    registry = CollectorRegistry()
    Metrics(registry).closed(plan(), books(), "ok")
    assert total(registry, "steersman_thinking_closed_total") == 0
    assert total(registry, "steersman_token_entropy_nats_count") == 0


def run(tokens: int, end: str | None, prefix: Prefix[Any] | None = None) -> Trajectory[Any]:
    """A trajectory with tokens of its own, beside those that it began after."""
    trajectory: Trajectory[Any] = Trajectory(Start(0, prefix=prefix))
    trajectory.advance(trajectory.start.begun + tokens, end)
    return trajectory


def tokens(*branches: Trajectory[Any], winner: int, outcome: str = "ok") -> dict[str, int]:
    """The tokens that are counted of a search, by kind."""
    ledger, registry = Ledger(), CollectorRegistry()
    search = ledger.open()
    search.branches.extend(branches)
    search.started.extend(branches)
    search.outcome = Outcome((branches[winner],), "first")
    Metrics(registry).closed(plan(), ledger, outcome)

    return {
        kind: int(total(registry, "steersman_tokens_total", method="plain", kind=kind))
        for kind in ("sampled", "returned", "cancelled", "lost")
    }


def test_tokens_of_a_returned_branch_that_a_limit_cut_off_are_returned() -> None:
    """Counted as cancelled too they would leave less than none to the lost ones."""
    cut = run(5, ABORTED)
    assert tokens(cut, run(3, "stop"), run(2, ABORTED), winner=0) == {
        "sampled": 10,
        "returned": 5,
        "cancelled": 2,
        "lost": 3,
    }
    assert tokens(cut, winner=0) == {"sampled": 5, "returned": 5, "cancelled": 0, "lost": 0}


def test_tokens_of_an_aborted_branch_that_a_returned_one_goes_on_from_are_returned() -> None:
    cut = run(5, ABORTED)
    fork = run(4, "stop", Prefix(cut, 3))
    assert tokens(cut, fork, winner=1) == {"sampled": 9, "returned": 7, "cancelled": 2, "lost": 0}


@pytest.mark.parametrize("outcome", ["error", "disconnected"])
def test_of_a_request_that_broke_off_nothing_is_returned(outcome: str) -> None:
    found = tokens(run(5, None), run(3, "stop"), run(2, ABORTED), winner=1, outcome=outcome)
    assert found == {"sampled": 10, "returned": 0, "cancelled": 7, "lost": 3}


@pytest.mark.parametrize("profile", ["quick", None])
def test_labels_of_everything_that_a_request_counts(profile: str | None) -> None:
    registry, ledger = CollectorRegistry(), books()
    ledger.first_token_seconds, ledger.first_answer_seconds = 0.25, 3.0
    ledger.generations[0].steps.extend(step(accepted) for accepted in (True, False, True))
    search = SearchPart(FirstFinishPolicy(), FirstFinish(method="first_finish", n=2))
    Metrics(registry).closed(plan(GOVERNED, MONITORED, search, profile=profile), ledger, "ok")

    def counted(name: str, **labels: str) -> float:
        labels = {"method": "first_finish", "profile": profile or "none", **labels}
        return total(registry, f"steersman_{name}", **labels)

    assert counted("requests_total", outcome="ok") == 1
    assert counted("request_seconds_count") == 1
    assert counted("first_token_seconds_sum") == 0.25
    assert counted("first_answer_token_seconds_sum") == 3.0
    assert counted("thinking_tokens_total") == 2
    assert counted("thinking_closed_total", closed_by="budget") == 1
    assert counted("token_entropy_nats_count", phase="thinking") == 2
    assert counted("search_steps_total", result="accepted") == 2
    assert counted("search_steps_total", result="rejected") == 1
    assert counted("search_fallbacks_total") == 0


def step(accepted: bool) -> ChainStep:
    return ChainStep(chain=0, step=0, accepted=accepted, tokens=1, acceptance=1.0)


def test_a_search_whose_conditions_no_branch_met() -> None:
    registry, ledger = CollectorRegistry(), books()
    ledger.generations[0].outcome = Outcome((ledger.branches[0],), "fallback")
    search = SearchPart(FirstFinishPolicy(), FirstFinish(method="first_finish", n=2))
    Metrics(registry).closed(plan(search), ledger, "ok")
    assert total(registry, "steersman_search_fallbacks_total", method="first_finish") == 1


def test_a_response_that_is_not_streamed_has_no_first_token() -> None:
    registry = CollectorRegistry()
    Metrics(registry).closed(plan(), books(), "ok")
    assert total(registry, "steersman_first_token_seconds_count") == 0
    assert total(registry, "steersman_first_answer_token_seconds_count") == 0


def test_tokens_that_waited_for_one_another() -> None:
    registry, ledger = CollectorRegistry(), Ledger()
    search = ledger.open()
    search.branches.extend([run(5, "stop"), run(3, "stop")])
    search.started.extend(search.branches)
    Metrics(registry).closed(plan(), ledger, "ok")
    assert total(registry, "steersman_sequential_tokens_total") == 5


def test_the_self_test_is_of_servers_with_steering() -> None:
    without, steering = CollectorRegistry(), CollectorRegistry()
    Metrics(without)
    Metrics(steering, desk())
    assert total(without, "steersman_self_test_passed") == 0
    assert total(steering, "steersman_self_test_passed") == 1


def desk() -> Desk:
    """Rows without vectors or edits."""
    empty: Any = SimpleNamespace(names=(), entries=())
    return Desk(empty, Admission(3), empty)


async def test_rows_and_waits_for_them() -> None:
    registry, shared = CollectorRegistry(), replace(desk(), admission=Admission(1, wait_seconds=0))
    Metrics(registry, shared)
    async with shared.admission.admitted(["a"]):
        with pytest.raises(ControlError):
            async with shared.admission.admitted(["b"]):
                pass
        assert total(registry, "steersman_steering_rows_in_use") == 1
    assert total(registry, "steersman_steering_rows") == 1
    assert total(registry, "steersman_steering_wait_seconds_count", end="refused") == 1
    assert total(registry, "steersman_steering_wait_seconds_count") == 1


def test_rewards_begin_at_zero() -> None:
    """A counter that first appears with its first error would hide that error from `rate`."""
    registry = CollectorRegistry()
    Metrics(registry, rewards=Rewards({"length": MadeUp()}))
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert {"steersman_reward_errors_total", "steersman_reward_seconds_count"} <= names


async def test_what_is_loaded_has_a_number_and_what_cannot_be_is_counted() -> None:
    registry, follower = CollectorRegistry(), Follower(1)
    profiles = {"calm": Profile(control={})}

    async def follow() -> list[str]:
        return ["a: broken", "b: broken"]

    Metrics(registry, digests=lambda: digests(None, profiles), follower=follower)
    for kind in KINDS:
        now = number(getattr(digests(None, profiles), kind))
        assert total(registry, "steersman_digest", kind=kind) == now
        assert total(registry, "steersman_unusable_files", kind=kind) == 0
    follower.add("vectors", follow)
    await follower.look()
    profiles.clear()
    assert total(registry, "steersman_unusable_files", kind="vectors") == 2
    assert total(registry, "steersman_digest", kind="profiles") == number(
        digests(None, {}).profiles
    )


TABLE = re.compile(r"^\| `(steersman_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def test_the_documented_metrics_are_those_that_there_are() -> None:
    text = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    documented = {
        name: (kind, {*re.findall(r"`(\w+)`", labels)})
        for name, kind, labels in TABLE.findall(text)
    }
    assert documented == exposed()


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric, by the name under which Prometheus finds it."""
    registry = CollectorRegistry()
    rewards = Rewards({"length": MadeUp()})
    metrics = Metrics(registry, desk(), rewards, lambda: digests(None, {}), Follower())
    metrics.closed(plan(MONITORED), books(), "ok")
    collectors: Any = registry
    for collector in list(collectors._collector_to_names):
        if names := getattr(collector, "_labelnames", ()):
            collector.labels(*names)  # a metric without any child does not show its labels
    found = {}
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels - {"le"})
    return found
