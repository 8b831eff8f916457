"""The sync client against a scripted server."""

from typing import Any, assert_type

import openai
import pytest
from openai import Stream
from openai.types.chat import ChatCompletionUserMessageParam
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from steersman_client import (
    AsyncSteersman,
    ControlledChatCompletion,
    ControlledChatCompletionChunk,
    ControlledCompletion,
    ControlledResponse,
    ControlledResponseCompletedEvent,
    ControlledResponseIncompleteEvent,
    ControlSpec,
    Leader,
    Receipt,
    Steersman,
    Thinking,
    control_body,
    receipt_of,
)

from .conftest import ScriptedServer

SPEC = ControlSpec(thinking=Thinking(budget=512), search=None)
SENT = {"thinking": {"budget": 512}, "search": None}
MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "2 + 2?"}]
LEADER = {"branch": 1, "tokens": 9, "text": "Hm"}


class Answer(BaseModel):
    answer: int


def test_chat(
    server: ScriptedServer,
    client: Steersman,
    chat_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    completion = client.chat.completions.create(model="m", messages=MESSAGES, control=SPEC)
    assert_type(completion, ControlledChatCompletion)
    assert_type(completion.control, Receipt | None)
    assert server.requests[0].url.path == "/v1/chat/completions"
    assert server.body == {"model": "m", "messages": MESSAGES, "control": SENT}
    assert completion.choices[0].message.content == '{"answer": 4}'
    assert completion.control == Receipt.model_validate(receipt)


def test_chat_without_control(
    server: ScriptedServer, client: Steersman, chat_completion: dict[str, Any]
) -> None:
    server.reply(chat_completion)
    completion = client.chat.completions.create(model="m", messages=MESSAGES)
    assert server.body == {"model": "m", "messages": MESSAGES}
    assert completion.control is None


def test_chat_stream(
    server: ScriptedServer,
    client: Steersman,
    chat_chunk: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    text = [{"index": 0, "delta": {"content": "4"}, "finish_reason": None}]
    server.reply_chunks(
        {**chat_chunk, "control": {"leader": LEADER}},
        {**chat_chunk, "choices": text},
        {**chat_chunk, "control": receipt},
    )
    stream = client.chat.completions.create(model="m", messages=MESSAGES, control=SPEC, stream=True)
    assert_type(stream, Stream[ControlledChatCompletionChunk])
    chunks = list(stream)
    assert server.body == {"model": "m", "messages": MESSAGES, "stream": True, "control": SENT}
    assert [chunk.leader for chunk in chunks] == [Leader.model_validate(LEADER), None, None]
    assert [chunk.control for chunk in chunks] == [None, None, Receipt.model_validate(receipt)]
    assert chunks[1].choices[0].delta.content == "4"


@pytest.mark.parametrize("stream", [False, True])
def test_stream_known_only_at_run_time(
    server: ScriptedServer,
    client: Steersman,
    chat_completion: dict[str, Any],
    chat_chunk: dict[str, Any],
    receipt: dict[str, Any],
    stream: bool,
) -> None:
    if stream:
        server.reply_chunks({**chat_chunk, "control": receipt})
    else:
        server.reply({**chat_completion, "control": receipt})
    result = client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    assert_type(result, ControlledChatCompletion | Stream[ControlledChatCompletionChunk])
    control = [c.control for c in result][-1] if isinstance(result, Stream) else result.control
    assert control == Receipt.model_validate(receipt)


def test_completions(
    server: ScriptedServer,
    client: Steersman,
    text_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**text_completion, "control": receipt})
    completion = client.completions.create(model="m", prompt="2 + 2 =", control=SPEC)
    assert_type(completion, ControlledCompletion)
    assert server.body == {"model": "m", "prompt": "2 + 2 =", "control": SENT}
    assert completion.control == Receipt.model_validate(receipt)


def test_completions_stream(
    server: ScriptedServer,
    client: Steersman,
    text_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply_chunks(
        {**text_completion, "control": {"leader": LEADER}}, {**text_completion, "control": receipt}
    )
    stream = client.completions.create(model="m", prompt="2 + 2 =", control=SPEC, stream=True)
    assert_type(stream, Stream[ControlledCompletion])
    first, last = stream
    assert server.body["control"] == SENT
    assert (first.control, first.leader) == (None, Leader.model_validate(LEADER))
    assert (last.control, last.leader) == (Receipt.model_validate(receipt), None)


def test_responses(
    server: ScriptedServer, client: Steersman, response: dict[str, Any], receipt: dict[str, Any]
) -> None:
    server.reply({**response, "control": receipt})
    result = client.responses.create(model="m", input="2 + 2?", control=SPEC)
    assert_type(result, ControlledResponse)
    assert server.body == {"model": "m", "input": "2 + 2?", "control": SENT}
    assert result.output_text == "4"
    assert result.control == Receipt.model_validate(receipt)


@pytest.mark.parametrize(
    ("kind", "event_type"),
    [
        ("response.completed", ControlledResponseCompletedEvent),
        ("response.incomplete", ControlledResponseIncompleteEvent),
    ],
)
def test_responses_stream(
    server: ScriptedServer,
    client: Steersman,
    response: dict[str, Any],
    receipt: dict[str, Any],
    kind: str,
    event_type: type[ControlledResponseCompletedEvent | ControlledResponseIncompleteEvent],
) -> None:
    server.reply_events(
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": kind, "sequence_number": 1, "response": {**response, "control": receipt}},
    )
    stream = client.responses.create(model="m", input="2 + 2?", control=SPEC, stream=True)
    assert_type(stream, Stream[ResponseStreamEvent])
    created, last = stream
    assert server.body["control"] == SENT
    assert created.type == "response.created"
    assert isinstance(last, event_type)
    assert last.response.control == Receipt.model_validate(receipt)


def test_raw_response(
    server: ScriptedServer,
    client: Steersman,
    chat_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, extra_body=control_body(SPEC)
    )
    assert server.body["control"] == SENT
    assert raw.headers["content-type"] == "application/json"
    assert receipt_of(raw.parse()) == Receipt.model_validate(receipt)


def test_raw_response_takes_control(
    server: ScriptedServer,
    client: Steersman,
    chat_chunk: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply_chunks({**chat_chunk, "control": receipt})
    raw: Any = client.with_raw_response
    chunks = raw.chat.completions.create(
        model="m", messages=MESSAGES, control=SPEC, stream=True
    ).parse()
    assert [chunk.control for chunk in chunks] == [Receipt.model_validate(receipt)]
    assert server.body["control"] == SENT


def test_streaming_response_takes_control(
    server: ScriptedServer, client: Steersman, response: dict[str, Any], receipt: dict[str, Any]
) -> None:
    server.reply({**response, "control": receipt})
    responses: Any = client.responses.with_streaming_response
    with responses.create(model="m", input="2 + 2?", control=SPEC) as streamed:
        result = streamed.parse()
    assert server.body["control"] == SENT
    assert result.control == Receipt.model_validate(receipt)


def test_parse_helper(
    server: ScriptedServer,
    client: Steersman,
    chat_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    completion = client.chat.completions.parse(
        model="m", messages=MESSAGES, response_format=Answer, extra_body=control_body(SPEC)
    )
    assert server.body["control"] == SENT
    assert completion.choices[0].message.parsed == Answer(answer=4)
    assert receipt_of(completion) == Receipt.model_validate(receipt)


def test_stream_helper(
    server: ScriptedServer,
    client: Steersman,
    chat_chunk: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    text = [{"index": 0, "delta": {"content": '{"answer": 4}'}, "finish_reason": "stop"}]
    server.reply_chunks(
        {**chat_chunk, "control": {"leader": LEADER}},
        {**chat_chunk, "choices": text, "control": receipt},
    )
    with client.chat.completions.stream(
        model="m", messages=MESSAGES, response_format=Answer, extra_body=control_body(SPEC)
    ) as stream:
        receipts = [receipt_of(event.chunk) for event in stream if event.type == "chunk"]
        final = stream.get_final_completion()
    assert server.body["control"] == SENT
    assert receipts == [None, Receipt.model_validate(receipt)]
    assert final.choices[0].message.parsed == Answer(answer=4)


def test_responses_stream_helper(
    server: ScriptedServer, client: Steersman, response: dict[str, Any], receipt: dict[str, Any]
) -> None:
    server.reply_events(
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": {**response, "output": [], "status": "in_progress"},
        },
        {
            "type": "response.completed",
            "sequence_number": 1,
            "response": {**response, "control": receipt},
        },
    )
    with client.responses.stream(
        model="m", input="2 + 2?", extra_body=control_body(SPEC)
    ) as stream:
        final = stream.get_final_response()
    assert server.body["control"] == SENT
    assert receipt_of(final) == Receipt.model_validate(receipt)


def test_with_options(
    server: ScriptedServer,
    client: Steersman,
    chat_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    other = client.with_options(timeout=3.0)
    assert_type(other, Steersman)
    assert type(other) is Steersman
    assert (other.timeout, other.base_url) == (3.0, client.base_url)
    completion = other.chat.completions.create(model="m", messages=MESSAGES, control=SPEC)
    assert server.body["control"] == SENT
    assert completion.control == Receipt.model_validate(receipt)


def test_refusal_names_the_field(server: ScriptedServer, client: Steersman) -> None:
    error = {
        "message": "control.steer[0].vector: unknown vector 'x'",
        "type": "invalid_request_error",
        "param": "control.steer[0].vector",
        "code": None,
    }
    server.reply({"error": error}, status=400)
    with pytest.raises(openai.BadRequestError, match="unknown vector") as caught:
        client.chat.completions.create(
            model="m", messages=MESSAGES, control={"steer": [{"vector": "x"}]}
        )
    assert caught.value.param == "control.steer[0].vector"


def test_control_routes(server: ScriptedServer, client: Steersman) -> None:
    server.reply({"search": ["first_finish"], "limits": {"max_siblings": 16}})
    profiles = {"object": "list", "data": [{"id": "concise", "object": "control.profile"}]}
    server.reply(profiles)
    assert client.control.capabilities() == {
        "search": ["first_finish"],
        "limits": {"max_siblings": 16},
    }
    assert client.control.profiles() == profiles
    assert [(request.method, request.url.path) for request in server.requests] == [
        ("GET", "/v1/control/capabilities"),
        ("GET", "/v1/control/profiles"),
    ]


def test_defaults_never_are_those_of_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")
    for name in ("STEERSMAN_API_KEY", "STEERSMAN_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for made in (Steersman(), AsyncSteersman(), Steersman(base_url=None, api_key=None)):
        assert str(made.base_url) == "http://127.0.0.1:8000/v1/"
        assert made.api_key == "none"


def test_defaults_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_API_KEY", "key")
    monkeypatch.setenv("STEERSMAN_BASE_URL", "http://gpu.example/v1")
    for made in (Steersman(), AsyncSteersman()):
        assert (str(made.base_url), made.api_key) == ("http://gpu.example/v1/", "key")
    explicit = Steersman(base_url="http://other.example/v1", api_key="mine")
    assert (str(explicit.base_url), explicit.api_key) == ("http://other.example/v1/", "mine")
