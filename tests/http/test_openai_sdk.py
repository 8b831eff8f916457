"""The official OpenAI SDK, with and without a control, on every endpoint that takes one."""

import json
from typing import Any

import openai
import pytest

MODEL = "smollm2"
ASK: list[Any] = [{"role": "user", "content": "Name a colour of the sky. Answer in one word."}]
RACE = {"control": {"search": {"method": "first_finish", "n": 3}}, "temperature": 1.0}
BODIES = pytest.mark.parametrize("extra_body", [None, RACE], ids=["plain", "controlled"])


def check_receipt(receipt: Any, extra_body: object, completion_tokens: int) -> None:
    if extra_body is None:
        assert receipt is None
        return
    search, compute = receipt["applied"]["search"], receipt["compute"]
    assert search["launched"] == 3
    assert search["finished"] + search["cancelled"] == 3
    assert search["winner"] in range(3)
    assert compute["returned_tokens"] == completion_tokens
    assert compute["sampled_tokens"] >= completion_tokens + compute["cancelled_tokens"]
    assert compute["prefill_tokens"] > 0
    assert compute["wall_ms"] > 0


@BODIES
def test_chat(sdk: openai.OpenAI, extra_body: Any) -> None:
    answer = sdk.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=40, extra_body=extra_body
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    receipt = (answer.model_extra or {}).get("control")
    check_receipt(receipt, extra_body, answer.usage.completion_tokens)


@BODIES
@pytest.mark.parametrize("usage", [False, True])
def test_streaming_chat(sdk: openai.OpenAI, extra_body: Any, usage: bool) -> None:
    stream = sdk.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=40,
        stream=True,
        stream_options={"include_usage": usage},
        extra_body=extra_body,
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    receipts = [(chunk.model_extra or {}).get("control") for chunk in chunks]
    assert receipts[:-1] == [None] * (len(chunks) - 1)
    # A chunk without choices is the usage that the client asked for, never one of ours.
    assert sum(not chunk.choices for chunk in chunks) == usage
    if usage:
        last = chunks[-1].usage
        assert last is not None
        check_receipt(receipts[-1], extra_body, last.completion_tokens)
    else:
        assert (receipts[-1] is not None) == (extra_body is not None)


@BODIES
def test_completions(sdk: openai.OpenAI, extra_body: Any) -> None:
    answer = sdk.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=20, extra_body=extra_body
    )
    assert answer.choices[0].text
    assert answer.usage is not None
    receipt = (answer.model_extra or {}).get("control")
    check_receipt(receipt, extra_body, answer.usage.completion_tokens)


@BODIES
def test_streaming_completions(sdk: openai.OpenAI, extra_body: Any) -> None:
    stream = sdk.completions.create(
        model=MODEL, prompt="Once upon", max_tokens=20, stream=True, extra_body=extra_body
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert ((chunks[-1].model_extra or {}).get("control") is None) == (extra_body is None)


@BODIES
def test_responses(sdk: openai.OpenAI, extra_body: Any) -> None:
    answer = sdk.responses.create(
        model=MODEL, input="Say hello.", max_output_tokens=30, extra_body=extra_body
    )
    assert answer.output_text
    assert answer.usage is not None
    receipt = (answer.model_extra or {}).get("control")
    check_receipt(receipt, extra_body, answer.usage.output_tokens)


@BODIES
def test_streaming_responses(sdk: openai.OpenAI, extra_body: Any) -> None:
    stream = sdk.responses.create(
        model=MODEL, input="Say hello.", max_output_tokens=30, stream=True, extra_body=extra_body
    )
    events = list(stream)
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta")
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.usage is not None
    receipt = (last.response.model_extra or {}).get("control")
    check_receipt(receipt, extra_body, last.response.usage.output_tokens)


def test_structured_output(sdk: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    answer = sdk.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "colour", "schema": schema, "strict": True},
        },
        extra_body=RACE,
    )
    assert json.loads(answer.choices[0].message.content or "")["colour"] in ("red", "blue")


@pytest.mark.parametrize("stream", [False, True])
def test_tools(sdk: openai.OpenAI, stream: bool) -> None:
    tool: Any = {
        "type": "function",
        "function": {
            "name": "paint",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"colour": {"enum": ["red", "blue"]}},
                "required": ["colour"],
                "additionalProperties": False,
            },
        },
    }
    options: Any = {
        "model": MODEL,
        "messages": ASK,
        "max_tokens": 60,
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "paint"}},
        "extra_body": RACE,
    }
    if stream:
        deltas = [
            call.function
            for chunk in sdk.chat.completions.create(**options, stream=True)
            for choice in chunk.choices
            for call in choice.delta.tool_calls or ()
        ]
        name = "".join(delta.name or "" for delta in deltas if delta)
        arguments = "".join(delta.arguments or "" for delta in deltas if delta)
    else:
        (call,) = sdk.chat.completions.create(**options).choices[0].message.tool_calls or ()
        assert call.type == "function"
        name, arguments = call.function.name, call.function.arguments
    assert name == "paint"
    assert json.loads(arguments)["colour"] in ("red", "blue")


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities(sdk: openai.OpenAI, stream: bool) -> None:
    options: Any = {
        "model": MODEL,
        "messages": ASK,
        "max_tokens": 30,
        "logprobs": True,
        "top_logprobs": 2,
        "extra_body": RACE,
    }
    if stream:
        chunks = list(sdk.chat.completions.create(**options, stream=True))
        logprobs = [
            entry
            for chunk in chunks
            for choice in chunk.choices
            for entry in (choice.logprobs.content or () if choice.logprobs else ())
        ]
        receipt: Any = (chunks[-1].model_extra or {})["control"]
    else:
        answer = sdk.chat.completions.create(**options)
        assert answer.choices[0].logprobs is not None
        logprobs = list(answer.choices[0].logprobs.content or ())
        receipt = (answer.model_extra or {})["control"]
    assert len(logprobs) == receipt["compute"]["returned_tokens"]
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in logprobs)


def test_a_seeded_request_may_have_a_long_prompt(sdk: openai.OpenAI) -> None:
    """Longer than vLLM takes in one step by default; on a CPU it may not be split."""
    prompt = [11 + i % 100 for i in range(2100)]
    answer = sdk.completions.create(model=MODEL, prompt=prompt, seed=1, max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt)
