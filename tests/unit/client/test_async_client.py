"""The async client against a scripted server."""

from typing import Any, assert_type

import pytest
from openai import AsyncStream
from openai.types.chat import ChatCompletionUserMessageParam
from openai.types.responses import ResponseStreamEvent

from steersman_client import (
    AsyncSteersman,
    ControlledChatCompletion,
    ControlledChatCompletionChunk,
    ControlledCompletion,
    ControlledResponse,
    ControlledResponseCompletedEvent,
    ControlSpec,
    Leader,
    Receipt,
    Thinking,
)

from .conftest import ScriptedServer

pytestmark = pytest.mark.anyio

SPEC = ControlSpec(thinking=Thinking(budget=512), search=None)
SENT = {"thinking": {"budget": 512}, "search": None}
MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "2 + 2?"}]
LEADER = {"branch": 1, "tokens": 9, "text": "Hm"}


async def test_chat(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    chat_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    completion = await async_client.chat.completions.create(
        model="m", messages=MESSAGES, control=SPEC
    )
    assert_type(completion, ControlledChatCompletion)
    assert server.body == {"model": "m", "messages": MESSAGES, "control": SENT}
    assert completion.control == Receipt.model_validate(receipt)


async def test_chat_without_control(
    server: ScriptedServer, async_client: AsyncSteersman, chat_completion: dict[str, Any]
) -> None:
    server.reply(chat_completion)
    completion = await async_client.chat.completions.create(model="m", messages=MESSAGES)
    assert server.body == {"model": "m", "messages": MESSAGES}
    assert completion.control is None


async def test_chat_stream(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    chat_chunk: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply_chunks(
        {**chat_chunk, "control": {"leader": LEADER}}, {**chat_chunk, "control": receipt}
    )
    stream = await async_client.chat.completions.create(
        model="m", messages=MESSAGES, control=SPEC, stream=True
    )
    assert_type(stream, AsyncStream[ControlledChatCompletionChunk])
    first, last = [chunk async for chunk in stream]
    assert server.body["control"] == SENT
    assert (first.control, first.leader) == (None, Leader.model_validate(LEADER))
    assert (last.control, last.leader) == (Receipt.model_validate(receipt), None)


async def test_completions(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    text_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**text_completion, "control": receipt})
    completion = await async_client.completions.create(model="m", prompt="2 + 2 =", control=SPEC)
    assert_type(completion, ControlledCompletion)
    assert server.body == {"model": "m", "prompt": "2 + 2 =", "control": SENT}
    assert completion.control == Receipt.model_validate(receipt)


async def test_completions_stream(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    text_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply_chunks(text_completion, {**text_completion, "control": receipt})
    stream = await async_client.completions.create(
        model="m", prompt="2 + 2 =", control=SPEC, stream=True
    )
    assert_type(stream, AsyncStream[ControlledCompletion])
    receipts = [chunk.control async for chunk in stream]
    assert server.body["control"] == SENT
    assert receipts == [None, Receipt.model_validate(receipt)]


async def test_responses(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    response: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**response, "control": receipt})
    result = await async_client.responses.create(model="m", input="2 + 2?", control=SPEC)
    assert_type(result, ControlledResponse)
    assert server.body == {"model": "m", "input": "2 + 2?", "control": SENT}
    assert result.control == Receipt.model_validate(receipt)


async def test_responses_stream(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    response: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply_events(
        {"type": "response.created", "sequence_number": 0, "response": response},
        {
            "type": "response.completed",
            "sequence_number": 1,
            "response": {**response, "control": receipt},
        },
    )
    stream = await async_client.responses.create(
        model="m", input="2 + 2?", control=SPEC, stream=True
    )
    assert_type(stream, AsyncStream[ResponseStreamEvent])
    created, last = [event async for event in stream]
    assert server.body["control"] == SENT
    assert created.type == "response.created"
    assert isinstance(last, ControlledResponseCompletedEvent)
    assert last.response.control == Receipt.model_validate(receipt)


async def test_raw_and_streaming_responses_take_control(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    chat_completion: dict[str, Any],
    chat_chunk: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    server.reply_chunks({**chat_chunk, "control": receipt})
    completions: Any = async_client.chat.completions
    raw = await completions.with_raw_response.create(model="m", messages=MESSAGES, control=SPEC)
    assert raw.parse().control == Receipt.model_validate(receipt)
    async with completions.with_streaming_response.create(
        model="m", messages=MESSAGES, control=SPEC, stream=True
    ) as streamed:
        chunks = [chunk async for chunk in await streamed.parse()]
    assert [chunk.control for chunk in chunks] == [Receipt.model_validate(receipt)]
    assert [
        b'"control":{"thinking":{"budget":512},"search":null}' in request.content
        for request in server.requests
    ] == [True, True]


async def test_with_options(
    server: ScriptedServer,
    async_client: AsyncSteersman,
    chat_completion: dict[str, Any],
    receipt: dict[str, Any],
) -> None:
    server.reply({**chat_completion, "control": receipt})
    other = async_client.with_options(max_retries=1)
    assert_type(other, AsyncSteersman)
    assert type(other) is AsyncSteersman
    completion = await other.chat.completions.create(model="m", messages=MESSAGES, control=SPEC)
    assert server.body["control"] == SENT
    assert completion.control == Receipt.model_validate(receipt)


async def test_control_routes(server: ScriptedServer, async_client: AsyncSteersman) -> None:
    server.reply({"search": ["first_finish"]})
    server.reply({"object": "list", "data": []})
    assert await async_client.control.capabilities() == {"search": ["first_finish"]}
    assert await async_client.control.profiles() == {"object": "list", "data": []}
    assert [request.url.path for request in server.requests] == [
        "/v1/control/capabilities",
        "/v1/control/profiles",
    ]
