"""Faults that end in an error for one request, and that nobody else feels: numbers that overflow
in the engine, a full queue, a reward that hangs."""

import concurrent.futures
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from steersman_client import Steersman
from tests.http.conftest import MAX_QUEUED
from tests.http.server import Server
from tests.http.test_vectors import HIDDEN, LAYERS, uploaded, vector
from tests.http.waiting import SOON, suspended

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {
    "model": "reasoner",
    "messages": [{"role": "user", "content": "6+9*3-8=?"}],
    "max_tokens": 40,
}
REASON = "the engine ended this request: its logits are no numbers"


@pytest.fixture
def huge(thinker: Steersman) -> Iterator[str]:
    """A vector of which two layers are finite together, and three are not."""
    one = np.eye(1, HIDDEN, dtype=np.float32)[0] * np.float32(1.5e38)
    with uploaded(thinker, "huge", vector(dict.fromkeys(range(LAYERS), one))) as name:
        yield name


def answers(server: Server) -> list[Any]:
    with server.client() as http:
        replies = [http.post(CHAT, json=BODY | {"seed": seed}).json() for seed in range(12)]
    return [reply["choices"][0]["message"] for reply in replies]


def steered(name: str, **options: Any) -> dict[str, Any]:
    steer = [{"vector": name, "phase": "all", "at": "all", "prompt": True}]
    return BODY | {"seed": 1, "max_tokens": 100, "control": {"steer": steer, **options}}


def test_what_overflows_ends_with_an_error_and_changes_no_other_answer(
    reasoner: Server, huge: str
) -> None:
    before = answers(reasoner)
    faults = reasoner.metric("steersman_faults_total")

    with reasoner.client() as http:
        whole = http.post(CHAT, json=steered(huge))
        stream = http.post(
            CHAT, json=steered(huge, monitor={"tokens": True}) | {"stream": True}
        ).text
        search = http.post(CHAT, json=steered(huge, search={"method": "first_finish", "n": 3}))
        completion = http.post(
            "/v1/completions",
            json={
                "model": "reasoner",
                "prompt": "6+9=",
                "n": 2,
                "control": steered(huge)["control"],
            },
        )

    for response in (whole, search, completion):
        assert response.status_code == 500
        assert response.json()["error"]["message"].startswith(REASON)
    events = [event.removeprefix("data: ") for event in stream.split("\n\n") if event]
    *_, error, done = events
    assert json.loads(error)["error"]["message"].startswith(REASON)
    assert json.loads(error)["error"]["code"] == 500
    assert done == "[DONE]"
    assert "NaN" not in stream.replace("(NaN)", "")
    assert answers(reasoner) == before
    assert reasoner.wait_for_metric("steersman_faults_total", faults + 4, SOON)
    assert reasoner.metric("steersman_steering_rows_in_use") == 0


@pytest.mark.parametrize(
    ("control", "param"),
    [
        ({"steer": [{"vector": "closing", "strength": 1e39}]}, "control.steer[0].strength"),
        ({"steer": [{"vector": "closing", "strength": 1e38}]}, "control.steer[0].strength"),
        ({"thinkedit": {"edit": "steady", "strength": 1e38}}, "control.thinkedit.strength"),
        (
            {
                "thinking": {
                    "balance": {
                        "vector": "concise",
                        "target_entropy": 1.0,
                        "gain": -1e308,
                        "integral_gain": 1e308,
                    }
                }
            },
            "control.thinking.balance.gain",
        ),
        ({"thinking": {"exit": {"entropy_below": 1e308}}}, "control.thinking.exit.entropy_below"),
    ],
)
def test_what_no_dtype_holds_is_refused_whatever_the_bound(
    reasoner: Server, control: dict[str, Any], param: str
) -> None:
    with reasoner.client() as http:
        response = http.post(CHAT, json=BODY | {"control": control})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_full_queue_refuses_all_branches_of_a_request_together(reasoner: Server) -> None:
    """One place is left, and the engine stands still: two branches do not fit, nor two prompts."""
    one: dict[str, Any] = {"model": "reasoner", "prompt": "6+9=", "max_tokens": 4, "temperature": 1}
    many = {**one, "n": MAX_QUEUED - 1, "max_tokens": 480, "ignore_eos": True, "stream": True}
    race = {**one, "control": {"search": {"method": "first_finish", "n": 2}}}
    path = "/v1/completions"

    def ask() -> int:
        with reasoner.client() as http:
            return http.post(path, json=one).status_code

    rejections = "vllm:admission_rejections_total"
    before = reasoner.metric(rejections, reason="max_num_queued_reqs")
    with reasoner.client() as http, concurrent.futures.ThreadPoolExecutor() as pool:
        with suspended(reasoner), http.stream("POST", path, json=many):
            prompts = {**one, "prompt": ["6+9=", "1+2="]}
            asked = (race, {**race, "stream": True}, {**one, "n": 2})
            asked += (prompts, {**prompts, "stream": True})
            refused = [http.post(path, json=body) for body in asked]
            rejected = reasoner.metric(rejections, reason="max_num_queued_reqs")
            waiting = pool.submit(ask)
        assert waiting.result() == 200

    for answer in refused:
        assert answer.status_code == 503
        assert "cannot accept new requests" in answer.json()["error"]["message"]
    assert rejected == before + len(refused)
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)
    with reasoner.client() as http:
        assert http.post(path, json=race).status_code == 200


def test_a_reward_that_blocks_its_thread_holds_up_nobody_else(reasoner: Server) -> None:
    """A thread cannot be ended: once four of them hang, no further one is started."""

    def search(reward: str, seed: int) -> dict[str, Any]:
        align = {"method": "align", "target": {"reward": reward}, "steps": 2}
        return (
            BODY
            | {"max_tokens": 400, "temperature": 1.0, "seed": seed}
            | {"control": {"search": align}}
        )

    with reasoner.client() as http:
        answers = [http.post(CHAT, json=search("blocked", 7))]
        while answers[-1].status_code == 504 and len(answers) < 9:
            answers.append(http.post(CHAT, json=search("blocked", 7)))
        other = http.post(CHAT, json=search("brief", 7))
        plain = http.post(CHAT, json=BODY)

    messages = [answer.json()["error"]["message"] for answer in answers]
    assert "reward 'blocked': took over 0.2 s" in messages[0]
    assert answers[-1].status_code == 502
    assert "4 calls that took too long are still running" in messages[-1]
    assert len(answers) == 5
    assert other.json()["control"]["compute"]["reward_calls"] > 0
    assert plain.status_code == 200
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)
