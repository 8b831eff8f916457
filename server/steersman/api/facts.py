"""Reading the facts of a request body with the fields of vLLM's own request models.

These are lax: `"n": "2"` is two choices, `"stream": 1` is a stream. Read by the same fields, a plan
and the engine can never see two different requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.exceptions import VLLMClientError
from vllm.renderers.inputs.preprocess import prompt_to_seq
from vllm.tool_parsers.utils import get_function_tools

from steersman.capabilities import ToolGrammar
from steersman.changes import changes
from steersman.request import Endpoint, Request

MODELS: Mapping[Endpoint, type[BaseModel]] = {
    Endpoint.CHAT: ChatCompletionRequest,
    Endpoint.COMPLETIONS: CompletionRequest,
    Endpoint.RESPONSES: ResponsesRequest,
}
"""vLLM's model of the body of each endpoint."""

_WHOLE: Mapping[str, Any] = {"top_p": (None, 1), "top_k": (None, 0, -1), "min_p": (None, 0)}
"""Fields that cut distributions off, each with the values where it does not."""
_PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")
_SHARED = (
    *("stream", "temperature", *_WHOLE, *_PENALTIES),
    *("logit_bias", "stop", "structured_outputs"),
)
_SAMPLED = (
    *(*_SHARED, "n", "max_tokens", "min_tokens", "use_beam_search", "thinking_token_budget"),
    *("stop_token_ids", "allowed_token_ids", "bad_words"),
    *("repetition_detection", "response_format"),
)
_TOOLS = ("tools", "parallel_tool_calls")
FIELDS: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.CHAT: (*_SAMPLED, *_TOOLS, "max_completion_tokens", "include_reasoning"),
    Endpoint.COMPLETIONS: (*_SAMPLED, "prompt", "prompt_embeds"),
    Endpoint.RESPONSES: (*_SHARED, *_TOOLS, "max_output_tokens", "background", "text"),
}
"""The fields of each that are read here; no endpoint reads those of another."""

_LIMITS: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.COMPLETIONS: ("max_tokens",),
    Endpoint.RESPONSES: ("max_output_tokens",),
}
"""The fields that limit a response; the first that is given counts."""


class _Field(NamedTuple):
    adapter: TypeAdapter[Any]
    default: Any


def _field(model: type[BaseModel], name: str) -> _Field:
    field = model.model_fields[name]
    kind: Any = field.annotation
    for rule in field.metadata:
        kind = Annotated[kind, rule]
    return _Field(TypeAdapter(kind), field.get_default(call_default_factory=True))


_READERS = {
    endpoint: {name: _field(model, name) for name in FIELDS[endpoint]}
    for endpoint, model in MODELS.items()
}


def values(endpoint: Endpoint, body: Mapping[str, Any]) -> dict[str, Any]:
    """The values that vLLM's model of a body has for the endpoint's `FIELDS`.

    Raises:
        ValidationError, VLLMClientError: It refuses the body.

    """
    read = {
        name: field.adapter.validate_python(body[name]) if name in body else field.default
        for name, field in _READERS[endpoint].items()
    }
    if endpoint is Endpoint.COMPLETIONS and read["max_tokens"] is None:
        read["max_tokens"] = _READERS[endpoint]["max_tokens"].default
    return read


def read(
    endpoint: Endpoint,
    body: Mapping[str, Any],
    tools: ToolGrammar = ToolGrammar.NONE,
    defaults: Mapping[str, float] = MappingProxyType({}),
) -> Request | None:
    """The facts of a body; None if vLLM refuses one of them, and so the body.

    Args:
        endpoint: Where it came in.
        body: It.
        tools: Tools whose calls this server binds to a grammar though none need be called.
        defaults: Its sampling parameters for requests that name none.

    """
    try:
        facts = values(endpoint, body)
        grammars = tuple(_grammars(endpoint, facts, body, tools))
    except (ValidationError, VLLMClientError):
        return None

    def sampling(name: str) -> Any:
        return defaults.get(name) if facts.get(name) is None else facts[name]

    limits = _LIMITS[endpoint]
    limit = next((name for name in limits if facts[name] is not None), limits[-1])
    choices, allowed = facts.get("n"), facts.get("allowed_token_ids")
    return Request(
        endpoint=endpoint,
        stream=bool(facts["stream"]),
        prompts=_prompts(facts) if endpoint is Endpoint.COMPLETIONS else 1,
        choices=1 if choices is None else choices,
        max_tokens=facts[limit],
        max_tokens_field=limit,
        temperature=facts["temperature"],
        beam_search=bool(facts.get("use_beam_search")),
        background=bool(facts.get("background")),
        embeddings=facts.get("prompt_embeds") is not None,
        include_reasoning=bool(facts.get("include_reasoning", True)),
        changes=(*changes(sampling), *grammars),
        truncated=next((name for name in _WHOLE if facts.get(name) not in _WHOLE[name]), None),
        stop_token_ids=len({*(facts.get("stop_token_ids") or ())}),
        allowed_token_ids=None if allowed is None else frozenset(allowed),
        messages=_messages(endpoint, body),
    )


def _prompts(facts: Mapping[str, Any]) -> int:
    """Prompts of a completion: texts (or token ids) and embeddings, each one or a list of them."""
    given = (facts["prompt_embeds"], facts["prompt"])
    return max(1, sum(len(prompt_to_seq(prompts)) for prompts in given if prompts is not None))


def _messages(endpoint: Endpoint, body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The messages of a body, as they came; of a completion none."""
    if endpoint is Endpoint.COMPLETIONS:
        return ()
    given = body.get("messages" if endpoint is Endpoint.CHAT else "input")
    if isinstance(given, str):
        return ({"role": "user", "content": given},)
    return given if isinstance(given, list) else ()


def _grammars(
    endpoint: Endpoint, facts: Mapping[str, Any], body: Mapping[str, Any], tools: ToolGrammar
) -> Iterator[str]:
    """The fields beside `structured_outputs` that bind the output to a grammar."""
    if endpoint is Endpoint.RESPONSES:
        text = facts["text"]
        name, layout = "text.format", None if text is None else text.format
    else:
        name, layout = "response_format", facts["response_format"]
    if layout is not None and layout.type != "text":
        yield name
    if endpoint is Endpoint.COMPLETIONS:
        return
    # As it came: vLLM's checks of the whole body make another value of it.
    choice = body.get("tool_choice", "auto")
    named = isinstance(choice, dict) and choice.get("type", "function") in ("function", "custom")
    if choice == "required" or named:
        yield "tool_choice"
    elif choice == "auto" and tools is not ToolGrammar.NONE:
        yield from _bound(facts, tools)


def _bound(facts: Mapping[str, Any], tools: ToolGrammar) -> Iterator[str]:
    """The fields by which calls of tools that need not be called are bound to a grammar."""
    functions = get_function_tools(facts["tools"] or ())
    if not functions:
        return
    strict = (getattr(one, "function", one).strict is True for one in functions)
    if tools is ToolGrammar.ALL or any(strict):
        yield "tools"
    elif facts["parallel_tool_calls"] is False:
        yield "parallel_tool_calls"
