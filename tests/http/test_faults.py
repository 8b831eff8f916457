"""A request that overflows in the engine is answered with an error, and nobody else feels it."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from steersman_client import Steersman
from tests.http.server import Server
from tests.http.test_vectors import HIDDEN, LAYERS, uploaded, vector

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
    assert reasoner.wait_for_metric("steersman_faults_total", faults + 4, 10)
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
