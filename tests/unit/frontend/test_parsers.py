"""Tools whose calls vLLM binds to a grammar: as its parsers of tool calls make one, or none."""

from collections.abc import Iterator
from typing import Any

import pytest
import vllm.envs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.parser.parser_manager import ParserManager

from steersman.api import facts
from steersman.capabilities import ToolGrammar
from steersman.frontend.parsers import tool_grammar
from steersman.request import Endpoint
from tests.unit.frontend.test_source import TOKENIZER

SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("name", "level", "grammar"),
    [
        (None, "auto", ToolGrammar.NONE),
        ("pythonic", "parameter", ToolGrammar.NONE),  # has no structural tag
        ("hermes", "auto", ToolGrammar.STRICT),
        ("hermes", "function", ToolGrammar.ALL),
        ("hermes", "parameter", ToolGrammar.ALL),
        ("glm47", "auto", ToolGrammar.ALL),  # by a level of its own
    ],
)
def test_each_parser_has_its_grammars(name: str | None, level: str, grammar: ToolGrammar) -> None:
    assert tool_grammar(name, level) is grammar


def test_without_structural_tags_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm.envs, "VLLM_ENFORCE_STRICT_TOOL_CALLING", False)
    assert tool_grammar("hermes", "parameter") is ToolGrammar.NONE


def bodies() -> Iterator[tuple[Endpoint, dict[str, Any]]]:
    function = {"name": "f", "parameters": SCHEMA}
    for strict in (True, False, None):
        own = {**function, "strict": strict}
        for parallel in ({}, {"parallel_tool_calls": False}, {"parallel_tool_calls": True}):
            for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}):
                chat = {"messages": [{"role": "user", "content": "hi"}], **parallel, **choice}
                yield Endpoint.CHAT, {**chat, "tools": [{"type": "function", "function": own}]}
                response = {"input": "hi", **parallel, **choice}
                yield Endpoint.RESPONSES, {**response, "tools": [{"type": "function", **own}]}
                yield Endpoint.RESPONSES, {**response, "tools": [{"type": "web_search"}]}
                yield Endpoint.RESPONSES, {**response, "tools": [{"type": "custom", "name": "c"}]}


@pytest.mark.parametrize("level", ["auto", "function"])
@pytest.mark.parametrize("name", ["hermes", "pythonic"])
def test_bodies_are_read_as_the_parser_will(name: str, level: str) -> None:
    """vLLM's own parser, run over the whole body, says which have a grammar."""
    parser = ParserManager.get_parser(name, enable_auto_tools=True, tool_strict_level=level)
    assert parser is not None
    server, bound = tool_grammar(name, level), 0
    for endpoint, body in bodies():
        request = facts.read(endpoint, dict(body), server)
        model = ChatCompletionRequest if endpoint is Endpoint.CHAT else ResponsesRequest
        whole: Any = model.model_validate(dict(body))
        if whole.tool_choice != "none":
            whole = parser(TOKENIZER, whole.tools).adjust_request(whole)
        wanted = whole.extract_structured_outputs() is not None
        assert request is not None
        assert (request.grammar is not None) == wanted, (endpoint, body)
        bound += wanted
    assert bool(bound) == (name == "hermes")
