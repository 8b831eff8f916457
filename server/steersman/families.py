"""Families of models: how each thinks and calls tools, and which parser of vLLM reads that.

A model is known by the `model_type` of its configuration, and by what its chat template holds: the
same type has makers' models that think and derived ones that do not.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """A parser, and the models that it reads.

    Attributes:
        parser: vLLM's name of it.
        types: Model types.
        template: Patterns all of which are found in the chat template.

    """

    parser: str
    types: frozenset[str]
    template: tuple[re.Pattern[str], ...]

    def holds(self, model_type: str, chat_template: str) -> bool:
        """Tell whether a model is one of these."""
        return model_type in self.types and all(one.search(chat_template) for one in self.template)


def _rule(parser: str, types: str, *template: str) -> Rule:
    return Rule(parser, frozenset(types.split()), tuple(re.compile(one) for one in template))


_QWEN2 = "qwen2 qwen2_moe qwen2_vl qwen2_5_vl"
_QWEN3 = (
    "qwen3 qwen3_moe qwen3_next qwen3_vl qwen3_vl_moe qwen3_omni_moe qwen3_5 qwen3_5_moe "
    "qwen3_5_text qwen3_5_moe_text"
)
_GLM = "glm4_moe glm4_moe_lite glm4v_moe"
_GRANITE = "granite granitemoe granitemoehybrid granitemoeshared"
_MISTRAL = "mistral mistral3 mistral4 ministral ministral3"
_NEMOTRON = "nemotron_h"
# The prompt of a model that always thinks ends inside the phase; that of one that can be told not
# to asks `enable_thinking`. Templates that only cut old thoughts out of a chat have neither.
_BEGUN = r"assistant(?:\\n|\n)<think>"
_CHOICE = rf"enable_thinking|{_BEGUN}"
_DEEPSEEK = "<｜Assistant｜>"

REASONING = (
    _rule("deepseek_v3", "deepseek_v3", _DEEPSEEK, "</think>", "thinking is defined"),
    _rule("deepseek_r1", f"deepseek_v3 llama qwen3 {_QWEN2}", _DEEPSEEK, "</think>"),
    _rule("deepseek_r1", _QWEN2, _BEGUN),
    _rule("qwen3", _QWEN3, "</?think>", _CHOICE),
    _rule("glm45", _GLM, "<think>", "enable_thinking"),
    _rule("openai_gptoss", "gpt_oss", r"<\|channel\|>"),
    _rule("granite", _GRANITE, "Here is my thought process:"),
    _rule("granite_thinking_parser", _GRANITE, "<think>", "enable_thinking"),
    _rule("kimi_k2", "kimi_k2", "<think>"),
    _rule("minimax_m2", "minimax_m2", "<think>"),
    _rule("mistral", _MISTRAL, r"\[THINK\]"),
    _rule("nemotron_v3", _NEMOTRON, "<think>", "enable_thinking"),
    _rule("olmo3", "olmo3", _BEGUN),
    _rule("seed_oss", "seed_oss", "seed:think"),
    _rule("ernie45", "ernie4_5_moe", _BEGUN),
    _rule("hunyuan_a13b", "hunyuan_v1_moe", "<think>"),
    _rule("step3p5", "step3p5", "<think>"),
    _rule("mimo", "mimo_v2_flash", "<think>"),
    _rule("cohere_command3", "cohere2", r"<\|START_THINKING\|>"),
    _rule("gemma4", "gemma4 gemma4_text gemma4_unified", r"<\|channel>", "enable_thinking"),
)
"""Parsers of the thinking phase; the first rule that holds counts."""

_HERMES = r'<tool_call>(?:\\n|\n)?\{+\\?"name\\?":'
TOOLS = (
    _rule("qwen3_coder", f"{_QWEN3} {_NEMOTRON}", "<function="),
    _rule("hermes", f"{_QWEN2} {_QWEN3} llama mistral smollm3", _HERMES),
    _rule("glm45", _GLM, "<arg_key>"),
    _rule("openai", "gpt_oss", r"<\|channel\|>"),
    _rule("granite4", _GRANITE, "<tool_call>"),
    _rule("granite", _GRANITE, r"<\|tool_call\|>"),
    _rule("kimi_k2", "kimi_k2", r"<\|tool_calls_section_begin\|>"),
    _rule("minimax_m2", "minimax_m2", "minimax:tool_call"),
    _rule("mistral", _MISTRAL, r"\[TOOL_CALLS\]"),
    _rule("llama3_json", "llama", '"parameters": dictionary'),
    _rule("olmo3", "olmo3", "<function_calls>"),
    _rule("seed_oss", "seed_oss", "seed:tool_call"),
    _rule("hunyuan_a13b", "hunyuan_v1_moe", "<tool_calls>"),
    _rule("step3p5", "step3p5", "<tool_call>"),
    _rule("mimo", "mimo_v2_flash", "<tool_call>"),
    _rule("phi4_mini_json", "phi3", r"<\|tool\|>"),
    _rule("lfm2", "lfm2 lfm2_moe", r"<\|tool_call_start\|>"),
    _rule("jamba", "jamba", "<tool_calls>"),
    _rule("gemma4", "gemma4 gemma4_text gemma4_unified", r"<\|tool_call>"),
)
"""Parsers of tool calls; the first rule that holds counts."""


def parser_of(
    config: Mapping[str, Any], chat_template: str, rules: tuple[Rule, ...], offered: Collection[str]
) -> str | None:
    """The parser of a model; None for one of no known family, or whose template has no such thing.

    Args:
        config: The model's configuration.
        chat_template: Its chat template.
        rules: `REASONING` or `TOOLS`.
        offered: The parsers that the installed vLLM has.

    """
    model_type = str(config.get("model_type"))
    names = (one.parser for one in rules if one.holds(model_type, chat_template))
    return next((name for name in names if name in offered), None)
