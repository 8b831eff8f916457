"""Id, times and log line of a request."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.server import ForkedServer, Server
from tests.http.waiting import SOON

ASKED = {"model": "reasoner", "prompt": "6+9*3-8=?", "max_tokens": 64, "seed": 3}
RACE = {"search": {"method": "first_finish", "n": 2}}
MADE = re.compile(r"[0-9a-f]{32}")


@pytest.mark.scale(not_on={"replicas"})  # a router names what its client has not
@pytest.mark.parametrize("control", [None, RACE], ids=["plain", "controlled"])
def test_the_clients_request_id_comes_back(reasoner: Server, control: Any) -> None:
    with reasoner.client() as http:
        body = {**ASKED, "control": control}
        named = http.post("/v1/completions", json=body, headers={"X-Request-Id": "mine-1"})
        unnamed = http.post("/v1/completions", json=body)
    assert named.headers.get_list("x-request-id") == ["mine-1"]
    assert named.json()["id"] == "cmpl-mine-1"
    assert MADE.fullmatch(unnamed.headers["x-request-id"])
    assert unnamed.json()["id"] == f"cmpl-{unnamed.headers['x-request-id']}"
    if control is not None:
        assert named.json()["control"]["request_id"] == "mine-1"


def test_every_answer_has_a_request_id(reasoner: Server) -> None:
    with reasoner.client() as http:
        answers = [
            http.get("/health"),
            http.get("/nowhere"),
            http.get("/metrics"),
            http.post("/v1/completions", json={**ASKED, "control": {"nonsense": 1}}),
            http.post("/v1/completions", json={**ASKED, "request_id": "the-bodys"}),
        ]
    answers.append(httpx.post(f"{reasoner.url}/v1/completions", json=ASKED))
    assert [one.status_code for one in answers] == [200, 404, 200, 400, 200, 401]
    assert all(len(one.headers.get_list("x-request-id")) == 1 for one in answers)
    assert answers[4].headers["x-request-id"] == "the-bodys"
    assert answers[4].json()["id"] == "cmpl-the-bodys"


def test_first_tokens_of_streams_are_timed(reasoner: Server) -> None:
    def counts(**labels: str) -> list[float]:
        names = ("first_token", "first_answer_token")
        return [reasoner.metric(f"steersman_{name}_seconds_count", **labels) for name in names]

    def sums() -> list[float]:
        names = ("first_token", "first_answer_token")
        return [reasoner.metric(f"steersman_{name}_seconds_sum") for name in names]

    chat = {
        "model": "reasoner",
        "messages": [{"role": "user", "content": "6+9*3-8=?"}],
        "max_tokens": 200,
        "seed": 3,
        "control": {"thinking": {"budget": 20}},
    }
    labels = {"method": "plain", "profile": "none"}
    before, spent = counts(**labels), sums()
    with reasoner.client() as http:
        http.post("/v1/chat/completions", json=chat)
        with http.stream("POST", "/v1/chat/completions", json={**chat, "stream": True}) as answer:
            answer.read()
    name = "steersman_first_token_seconds_count"
    assert reasoner.wait_for_metric(name, before[0] + 1, SOON, **labels)
    assert counts(**labels) == [count + 1 for count in before]
    first, answered = (after - earlier for after, earlier in zip(sums(), spent, strict=True))
    assert 0 < first < answered


@pytest.fixture(scope="module")
def logging_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server that writes JSON, and its log."""
    log = tmp_path_factory.mktemp("telling") / "server.log"
    with ForkedServer.steersman(("reasoner", "--log-format=json"), log) as server:
        yield server, log


def test_a_controlled_request_is_one_json_line(logging_server: tuple[Server, Path]) -> None:
    server, log = logging_server
    headers = {"X-Request-Id": "logged"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as http:
        receipt = http.post("/v1/completions", json={**ASKED, "control": RACE}).json()["control"]
        http.post("/v1/completions", json=ASKED)
        http.post("/v1/completions", json={**ASKED, "control": {"search": {"method": "no"}}})
        assert server.wait_for_metric("steersman_refused_total", 1, SOON)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    ended, refused = (line for line in lines if line.get("request_id") == "logged")
    assert (ended["method"], ended["profile"], ended["outcome"]) == ("first_finish", "none", "ok")
    assert (ended["status"], ended["branches"]) == (200, 2)
    assert ended["sampled_tokens"] == receipt["compute"]["sampled_tokens"]
    assert (refused["outcome"], refused["status"]) == ("refused", 400)
    assert ASKED["prompt"] not in json.dumps(lines)
