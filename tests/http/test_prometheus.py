"""Debian's Prometheus with compose's configuration: it scrapes the server, and panels have data."""

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steersman.puzzles.problems import KINDS, problems
from tests import dashboard
from tests.http.conftest import STEERING_ROWS
from tests.http.server import Server
from tests.http.waiting import SECONDS, suspended, wait_until
from tests.prometheus import PROGRAM, Prometheus
from tests.soak.mix import CONTROLS, control_of

KEY = "sk-prometheus"
"""May read the metrics, and nothing else."""
ROWS_IN_USE = "steersman_steering_rows_in_use"
CHAT = "/v1/chat/completions"


@pytest.fixture
def prometheus(reasoner: Server, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the server every second."""
    if PROGRAM is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    target = reasoner.url.removeprefix("http://")
    with Prometheus(tmp_path, target, KEY, every=1) as running:
        yield running


def asked_for_everything(server: Server) -> None:
    """Ask with every control, as streams and not, and be refused, limited and failed once."""
    (problem,) = problems(KINDS[0], 1, "held_out", 0, 1)
    body: dict[str, Any] = {
        "model": "reasoner",
        "messages": [{"role": "user", "content": problem.prompt}],
        "temperature": 1.0,
        "max_tokens": 160,
    }
    broken = {"search": {"method": "align", "target": {"reward": "broken"}, "steps": 2}}
    with server.client() as http:
        for kind in CONTROLS:
            control = control_of(kind, problem)
            asked = body if control is None else {**body, "control": control}
            assert http.post(CHAT, json={**asked, "stream": True}).is_success, kind
        assert http.post(CHAT, json={**body, "control": broken}).status_code == 502
        assert http.post(CHAT, json={**body, "control": {"no": 1}}).status_code == 400
        alice = {"Authorization": "Bearer sk-alice"}
        assert http.post(CHAT, json={**body, "n": 5}, headers=alice).status_code == 429

        def steered(number: int) -> int:
            steer = [{"vector": "closing", "strength": (number + 1) / 100}]
            control = {**body, "ignore_eos": True, "control": {"steer": steer}}
            return http.post(CHAT, json=control).status_code

        # One more than there are rows, while no request ends: it waits for one.
        with concurrent.futures.ThreadPoolExecutor(STEERING_ROWS) as pool, suspended(server):
            held = pool.map(steered, range(STEERING_ROWS))
            assert server.wait_for_metric(ROWS_IN_USE, STEERING_ROWS, SECONDS)
            assert steered(STEERING_ROWS) == 429
        assert set(held) == {200}


def test_every_panel_of_the_dashboard_has_data(reasoner: Server, prometheus: Prometheus) -> None:
    queries = {
        f"{panel.title}, {legend}": dashboard.filled(query, "10m")
        for panel in dashboard.panels()
        for legend, query in panel.queries.items()
    }
    assert len(queries) > 50
    empty, deadline = set(queries), time.monotonic() + SECONDS
    # A rate needs a counter that was there before: what is asked for once is not enough.
    while empty and time.monotonic() < deadline:
        asked_for_everything(reasoner)
        time.sleep(2)
        empty = {title for title in empty if not prometheus.now(queries[title])}
    assert not empty


def test_the_alerts_are_loaded_and_quiet(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = prometheus.get("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [rule for rule in rules if rule["health"] != "unknown"]

    wait_until(evaluated)
    rules = evaluated()
    assert len(rules) > 5
    assert {rule["health"] for rule in rules} == {"ok"}
    assert "firing" not in {rule["state"] for rule in rules}
    assert [value for _, value in prometheus.first("up")] == [1.0]


def test_without_a_key_there_is_nothing_to_scrape(reasoner: Server, tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    target = reasoner.url.removeprefix("http://")
    with Prometheus(tmp_path, target, "sk-wrong", every=1) as refused:
        assert [value for _, value in refused.first("up")] == [0.0]
