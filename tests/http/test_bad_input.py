"""Bad input is answered at the door: a clear error, nothing reaches the engine, service goes on."""

import json
from typing import Any

import pytest

from tests.http.server import API_KEY, Server

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 4,
    "temperature": 1.0,
}


def first_finish(**fields: Any) -> dict[str, Any]:
    return {"control": {"search": {"method": "first_finish", **fields}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"control": {"search": {"method": "fastest"}}}, "control.search.method"),
        (first_finish(n=0), "control.search.n"),
        (first_finish(n=17), "control.search.n"),
        (first_finish(n=2, k=3), "control.search.k"),
        (first_finish(siblings=2), "control.search.siblings"),
        (first_finish(n="two"), "control.search.n"),
        ({"control": {"profile": "none"}}, "control.profile"),
        ({"model": "smollm2:none"}, "model"),
        (first_finish(n=2) | {"temperature": 0}, "temperature"),
        (first_finish(n=2) | {"use_beam_search": True}, "use_beam_search"),
        (first_finish(n=2) | {"n": 3}, "n"),
        # vLLM's request models are lax.
        (first_finish(n=2) | {"temperature": "0"}, "temperature"),
        (first_finish(n=2) | {"use_beam_search": 1}, "use_beam_search"),
        ({"control": {}, "n": "20"}, "n"),
        ({"control": "fast"}, "control"),
        ({"control": {"steer": [{"vector": "v"}]}}, "control.steer[0].vector"),
        ({"control": {"thinking": {"budget": 5}}}, "control.thinking.budget"),
        ({"control": {"search": {"method": "beam"}}}, "control.search.method"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_control_is_a_400_that_names_the_field(
    server: Server, fields: dict[str, Any], param: str, stream: bool
) -> None:
    prompts = server.metric("vllm:prompt_tokens_total")
    with server.client() as http:
        response = http.post(CHAT, json={**BODY, **fields, "stream": stream})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert error["message"]
    assert server.metric("vllm:prompt_tokens_total") == prompts


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"model": "smollm2", "control": {', 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (json.dumps(BODY | {"messages": [{"role": "user", "content": "a " * 5_000_000}]}), 400),
        (
            json.dumps(
                BODY
                | first_finish(n=2)
                | {"messages": [{"role": "user", "content": "a " * 5_000_000}]}
            ),
            400,
        ),
        (json.dumps(BODY | {"padding": "a" * 21_000_000}), 413),
        (json.dumps(BODY | {"model": "gpt-9"}), 404),
        (json.dumps(BODY | first_finish(n=2) | {"model": "gpt-9"}), 404),
    ],
    ids=["cut", "bytes", "array", "10MB", "10MB-control", "21MB", "model", "model-control"],
)
def test_a_bad_body_is_a_clean_error(server: Server, content: str | bytes, status: int) -> None:
    prompts = server.metric("vllm:prompt_tokens_total")
    with server.client() as http:
        response = http.post(CHAT, content=content, headers={"content-type": "application/json"})
        assert response.status_code == status
        assert response.json()["error"]["message"]
        assert server.metric("vllm:prompt_tokens_total") == prompts
        assert http.post(CHAT, json=BODY | first_finish(n=2)).status_code == 200


@pytest.mark.parametrize("content_type", ["Application/JSON", "APPLICATION/JSON; Charset=x"])
def test_a_header_is_read_as_http_has_it(server: Server, content_type: str) -> None:
    with server.client() as http:
        headers = {"content-type": content_type}
        for fields, param in (
            ({"control": {"no": 1}}, "control.no"),
            ({"model": "smollm2:no"}, "model"),
        ):
            answer = http.post(CHAT, content=json.dumps(BODY | fields), headers=headers)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [{"n": 2.5}, {"stream": "maybe"}, {"seed": 2**64}, {"user": "\ud800", "n": "x"}, {"stop": 1}],
)
def test_what_vllm_refuses_is_refused_in_its_words(server: Server, fields: dict[str, Any]) -> None:
    with server.client() as http:
        headers = {"content-type": "application/json"}
        with_control, without = (
            http.post(CHAT, content=json.dumps(BODY | fields | control), headers=headers)
            for control in ({"control": {}}, {})
        )
        assert (with_control.status_code, with_control.json()) == (400, without.json())


def test_what_cannot_be_encoded_passes_all_the_same(server: Server) -> None:
    with server.client() as http:
        for control in ({}, {"control": {}}):
            content = json.dumps(BODY | {"user": "\ud800"} | control)
            answer = http.post(CHAT, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 200


def test_a_trailing_slash_is_redirected_with_a_control_as_without(server: Server) -> None:
    with server.client() as http:
        for control in ({}, {"control": {}}, {"model": "smollm2:race"}):
            answer = http.post(f"{CHAT}/", json=BODY | control)
            assert (answer.status_code, answer.headers["location"]) == (307, f"{server.url}{CHAT}")


def test_vllm_does_not_know_the_names_with_a_profile(server: Server) -> None:
    """One that came to it some other way would be answered without its control."""
    with server.client() as http:
        headers = {"X-Amzn-SageMaker-Adapter-Identifier": "smollm2:race"}
        assert http.post("/invocations", json=BODY, headers=headers).status_code == 404


def test_control_where_it_has_no_effect_is_refused(server: Server) -> None:
    with server.client() as http:
        for path in ("/v1/messages", "/v1/chat/completions/batch", "/tokenize"):
            response = http.post(path, json=BODY | first_finish(n=2))
            assert response.status_code == 400, path
            assert response.json()["error"]["param"] == "control"


def test_authentication_comes_before_the_control(server: Server) -> None:
    with server.client() as http:
        headers = {"Authorization": f"Bearer {API_KEY}x"}
        response = http.post(CHAT, json=BODY | {"control": 3}, headers=headers)
        assert response.status_code == 401
        assert http.get("/v1/control/capabilities", headers=headers).status_code == 401
