"""vLLM's parsers of thinking and of tool calls: which there are, and whether one fits a model."""

from collections.abc import Collection
from typing import Any

import vllm.envs
from vllm.reasoning import ReasoningParserManager
from vllm.tokenizers import cached_get_tokenizer
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel

from steersman.capabilities import ToolGrammar


def reasoning_parsers() -> Collection[str]:
    """Names of the installed vLLM's parsers of thinking."""
    names: list[str] = ReasoningParserManager.list_registered()
    return names


def tool_parsers() -> Collection[str]:
    """Names of the installed vLLM's parsers of tool calls."""
    names: list[str] = ToolParserManager.list_registered()
    return names


def tokenizer_of(
    name: str, *, mode: str, revision: str | None, trust_remote_code: bool
) -> Any | None:
    """A model's tokenizer, which vLLM's front end will ask for in the same words; None if it fails.

    Then loading the model will fail too, and say why.
    """
    try:
        return cached_get_tokenizer(
            name,
            runner_type="generate",
            tokenizer_mode=mode,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    except Exception:  # a tokenizer may run the code of its model
        return None


def refusal(name: str, tokenizer: Any, *, tools: bool = False) -> str | None:
    """The reason why a parser does not work with a tokenizer; None if it does.

    vLLM would end the server with it.

    Args:
        name: The parser.
        tokenizer: The model's.
        tools: Whether it is a parser of tool calls, and not of thinking.

    """
    try:
        if tools:
            ToolParserManager.get_tool_parser(name)(tokenizer)
        else:
            ReasoningParserManager.get_reasoning_parser(name)(tokenizer)
    except Exception as error:  # each parser has its own, a missing package among them
        return str(error) or type(error).__name__
    return None


def tool_grammar(name: str | None, level: str) -> ToolGrammar:
    """Tools whose calls are bound to a grammar though the model need not call any.

    Args:
        name: The parser of tool calls; None without one.
        level: vLLM's `--tool-strict-level`.

    """
    if name is None or not vllm.envs.VLLM_ENFORCE_STRICT_TOOL_CALLING:
        return ToolGrammar.NONE
    parser = ToolParserManager.get_tool_parser(name)
    if parser.structural_tag_model is None:
        return ToolGrammar.NONE
    own = parser.default_tool_strict_level or ToolStrictLevel.AUTO
    strict = ToolStrictLevel.from_name(level) or own
    return ToolGrammar.STRICT if strict is ToolStrictLevel.AUTO else ToolGrammar.ALL
