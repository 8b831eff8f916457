"""Keys, their scopes and their limits, on the real server."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from steersman.api import access
from steersman_client import ControlSpec, Steersman
from tests.http.server import ADMIN_KEY, API_KEY, Server
from tests.http.waiting import SOON, suspended, wait_until

QUESTION: list[Any] = [{"role": "user", "content": "8*7-4+11=?"}]
ASKED: dict[str, Any] = {"model": "reasoner", "messages": QUESTION, "temperature": 1.0}
COMPLETIONS = "/v1/completions"


def holder(server: Server, key: str | None, **headers: str) -> httpx.Client:
    """An HTTP client with a key."""
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return httpx.Client(base_url=server.url, timeout=120, headers=headers)


@pytest.fixture
def alice(reasoner: Server) -> Iterator[Steersman]:
    """A client whose key has limits; it does not try again."""
    url = f"{reasoner.url}/v1"
    with Steersman(base_url=url, api_key="sk-alice", max_retries=0) as client:
        yield client


def over(error: openai.RateLimitError, limit: str, value: int) -> None:
    """Check that a limit of alice's refused a request."""
    assert error.status_code == 429
    assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert int(error.response.headers["retry-after"]) >= 1
    assert f"key 'alice' is over its limit {limit} = {value}" in error.message
    assert "sk-alice" not in error.response.text


def test_every_route_wants_a_key(reasoner: Server) -> None:
    with reasoner.client() as http:
        document = http.get("/openapi.json").json()
    routes = {
        (method.upper(), re.sub(r"[{}]", "", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    hidden = {"/metrics", "/docs", "/redoc", "/openapi.json", "/nothing/here"}
    routes |= {("GET", path) for path in hidden}
    assert ("POST", "/invocations") in routes
    body = {**ASKED, "max_tokens": 4}
    with holder(reasoner, None) as stranger, holder(reasoner, "sk-wrong") as wrong:
        for method, path in sorted(routes):
            for http in (stranger, wrong):
                answer = http.request(method, path, json=body if method == "POST" else None)
                if path in access.OPEN:
                    assert answer.status_code == 200, path
                    continue
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "invalid_api_key"
        assert stranger.options("/v1/models").status_code == 401
    with reasoner.client() as http:
        assert http.post("/invocations", json=body).status_code == 200


@pytest.mark.parametrize(
    ("key", "statuses"),
    [
        (API_KEY, {"models": 200, "metrics": 200, "server_info": 403, "capabilities": 200}),
        (ADMIN_KEY, {"models": 200, "metrics": 200, "server_info": 404, "capabilities": 200}),
        ("sk-operator", {"models": 403, "metrics": 200, "server_info": 404, "capabilities": 200}),
        ("sk-prometheus", {"models": 403, "metrics": 200, "server_info": 403, "capabilities": 403}),
    ],
)
def test_scopes(reasoner: Server, key: str, statuses: dict[str, int]) -> None:
    with holder(reasoner, key) as http:
        found = {
            "models": http.get("/v1/models").status_code,
            "metrics": http.get("/metrics").status_code,
            "server_info": http.get("/server_info").status_code,
            "capabilities": http.get("/v1/control/capabilities").status_code,
        }
    assert found == statuses


def test_websockets_want_a_key_too(reasoner: Server) -> None:
    lines = (
        "GET /v1/realtime HTTP/1.1",
        "Host: here",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    with socket.create_connection(("127.0.0.1", reasoner.port), timeout=30) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        assert connection.recv(4096).split(b"\r\n")[0].split()[1] in (b"401", b"403")


def test_a_page_of_another_origin_may_not_ask(reasoner: Server) -> None:
    origin = {"Origin": "https://page.example"}
    with holder(reasoner, API_KEY, **origin) as http:
        assert "access-control-allow-origin" not in http.get("/v1/models").headers
        preflight = http.options(
            "/v1/chat/completions", headers={"Access-Control-Request-Method": "POST"}
        )
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


def test_a_key_is_told_of_its_limits(alice: Steersman) -> None:
    told = alice.control.capabilities()["key"]
    assert (told["name"], told["scopes"]) == ("alice", ["use"])
    assert told["limits"] == {"concurrency": 1, "fan_out": 4, "tokens_per_minute": None}


def test_a_fan_out_is_admitted_as_a_whole_or_refused(alice: Steersman, reasoner: Server) -> None:
    race = {"method": "first_finish", "n": 5}
    before = reasoner.metric("vllm:generation_tokens_total")
    refused = reasoner.metric("steersman_limited_total", limit="fan_out", key="alice")
    for fields in (
        {"n": 5},
        {"n": 5, "stream": True},
        {"control": ControlSpec.model_validate({"search": race})},
        {"n": 5, "extra_body": {"use_beam_search": True}},
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            alice.chat.completions.create(**ASKED, **fields)
        over(caught.value, "fan_out", 4)
        assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.RateLimitError) as caught:
        alice.completions.create(model="reasoner", prompt=["1+1="] * 3, n=2)
    over(caught.value, "fan_out", 4)
    assert reasoner.metric("vllm:generation_tokens_total") == before
    assert reasoner.metric("steersman_limited_total", limit="fan_out", key="alice") == refused + 5
    alone = Steersman(base_url=str(alice.base_url), api_key="sk-alice", max_retries=5)
    assert len(alone.chat.completions.create(**ASKED, n=4, max_tokens=4).choices) == 4


def test_a_whole_fan_out_of_invocations_is_refused_too(reasoner: Server) -> None:
    with holder(reasoner, "sk-alice") as http:
        answer = http.post("/invocations", json={**ASKED, "n": 5})
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


def test_requests_at_once(alice: Steersman, reasoner: Server) -> None:
    long = {**ASKED, "max_tokens": 400, "extra_body": {"ignore_eos": True}}
    with suspended(reasoner):  # the first cannot end before the second is there
        stream = alice.chat.completions.create(**long, stream=True)
        with pytest.raises(openai.RateLimitError) as caught:
            alice.chat.completions.create(**ASKED)
        over(caught.value, "concurrency", 1)
        assert alice.models.list().data
    stream.close()  # before its end
    patient = Steersman(base_url=str(alice.base_url), api_key="sk-alice", max_retries=5)
    assert patient.chat.completions.create(**ASKED, max_tokens=4).choices
    assert reasoner.metric("steersman_limited_total", limit="concurrency", key="alice") >= 1


def test_tokens_of_losers_count(reasoner: Server) -> None:
    url = f"{reasoner.url}/v1"
    race = ControlSpec.model_validate({"search": {"method": "majority", "n": 4}})
    with Steersman(base_url=url, api_key="sk-bob", max_retries=0) as bob:
        long = {**ASKED, "max_tokens": 32, "extra_body": {"ignore_eos": True}}
        answer = bob.chat.completions.create(**long, control=race)
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 32 < 60
        with pytest.raises(openai.RateLimitError) as caught:
            bob.chat.completions.create(**ASKED)
    assert "key 'bob' is over its limit tokens_per_minute = 60" in caught.value.message
    assert int(caught.value.response.headers["retry-after"]) > 30
    assert reasoner.metric("steersman_limited_total", limit="tokens_per_minute", key="bob") == 1


def test_who_hangs_up_pays_for_what_was_sampled(reasoner: Server) -> None:
    """A request that is not streamed has brought nothing yet."""
    body = {"model": "reasoner", "prompt": "8*7-4+11=", "max_tokens": 480, "ignore_eos": True}
    content = json.dumps({**body, "n": 4}).encode()
    head = (
        f"POST {COMPLETIONS} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer sk-carol\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    before = reasoner.metric("vllm:generation_tokens_total")
    with socket.create_connection(("127.0.0.1", reasoner.port)) as connection:
        connection.sendall(head.encode() + content)
        wait_until(lambda: reasoner.metric("vllm:generation_tokens_total") >= before + 200)
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)
    with holder(reasoner, "sk-carol") as http:
        refused = http.post(COMPLETIONS, json={**body, "max_tokens": 1})
    assert refused.status_code == 429
    assert "tokens_per_minute" in refused.json()["error"]["message"]


def test_a_key_in_no_log(reasoner: Server) -> None:
    log = Path(reasoner._log).read_text(errors="replace")
    for key in ("sk-alice", "sk-carol", "sk-bob", ADMIN_KEY):
        assert key not in log
