"""Parsers of models, by family."""

import pytest
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from steersman.families import REASONING, TOOLS, Rule, parser_of

OFFERED = {
    REASONING: ReasoningParserManager.list_registered(),
    TOOLS: ToolParserManager.list_registered(),
}
ASSISTANT = r"{{- '<|im_start|>assistant\n' }}"
THINKS = r"{{- '<|im_start|>assistant\n<think>\n' }}"
HYBRID = ASSISTANT + r"{% if enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{% endif %}"
CUTS = "{%- set content = content.split('<think>')[-1].split('</think>')[-1] %}"
JSON_CALLS = r"<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
DEEPSEEK = "{{'<｜Assistant｜>' + content.split('</think>')[-1]}}"


@pytest.mark.parametrize(
    ("model_type", "template", "parser"),
    [
        ("qwen3", HYBRID, "qwen3"),
        ("qwen3_moe", THINKS + CUTS, "qwen3"),
        ("qwen3_5", HYBRID, "qwen3"),
        ("qwen3", ASSISTANT, None),
        ("qwen3", ASSISTANT + CUTS, None),
        ("qwen3", "", None),
        ("qwen2", THINKS, "deepseek_r1"),
        ("qwen2", ASSISTANT, None),
        ("qwen2", DEEPSEEK, "deepseek_r1"),
        ("llama", DEEPSEEK, "deepseek_r1"),
        ("qwen3", DEEPSEEK, "deepseek_r1"),
        ("deepseek_v3", DEEPSEEK, "deepseek_r1"),
        ("deepseek_v3", "{%- if not thinking is defined %}" + DEEPSEEK, "deepseek_v3"),
        ("deepseek_v3", "{{'<｜Assistant｜>'}}", None),
        ("llama", THINKS, None),
        ("gpt_oss", "<|start|>assistant<|channel|>analysis<|message|>", "openai_gptoss"),
        ("glm4_moe", "{{ '<think></think>' if not enable_thinking }}", "glm45"),
        ("granite", "Write your thoughts after 'Here is my thought process:'", "granite"),
        ("granite", "<think></think><response></response>{{ thinking }}", None),
        ("granitemoehybrid", HYBRID, "granite_thinking_parser"),
        ("kimi_k2", "<think></think>", "kimi_k2"),
        ("kimi_k2", "<|im_assistant|>", None),
        ("minimax_m2", r"{{- ']~b]ai' ~ '\n' ~ '<think>' }}", "minimax_m2"),
        ("mistral3", "[THINK]...[/THINK]", "mistral"),
        ("mistral", "[INST]", None),
        ("olmo3", THINKS, "olmo3"),
        ("olmo3", ASSISTANT, None),
        ("seed_oss", "{%- set begin = '<seed:think>' %}", "seed_oss"),
        ("gemma4", "<|channel>{% if enable_thinking %}", "gemma4"),
        ("somebody_elses", HYBRID, None),
    ],
)
def test_thinking(model_type: str, template: str, parser: str | None) -> None:
    found = parser_of({"model_type": model_type}, template, REASONING, OFFERED[REASONING])
    assert found == parser


@pytest.mark.parametrize(
    ("model_type", "template", "parser"),
    [
        ("qwen3", JSON_CALLS, "hermes"),
        ("qwen2", r"<tool_call>\n{{\"name\": <function-name>}}", "hermes"),
        ("llama", '<tool_call>\n{"name": <function-name>}', "hermes"),
        ("qwen3_moe", "<tool_call>\n<function=example>", "qwen3_coder"),
        ("qwen3", HYBRID, None),
        ("llama", '{"name": function name, "parameters": dictionary of argument}', "llama3_json"),
        ("llama", ASSISTANT, None),
        ("glm4_moe", "<tool_call>{function-name}\n<arg_key>", "glm45"),
        ("gpt_oss", "<|channel|>", "openai"),
        ("granite", "<|tool_call|>", "granite"),
        ("granitemoehybrid", '<tool_call>\n{"name": <function-name>}', "granite4"),
        ("kimi_k2", "<|tool_calls_section_begin|>", "kimi_k2"),
        ("minimax_m2", "<minimax:tool_call>", "minimax_m2"),
        ("mistral", "[TOOL_CALLS]", "mistral"),
        ("olmo3", "<function_calls>", "olmo3"),
        ("somebody_elses", JSON_CALLS, None),
    ],
)
def test_tool_calls(model_type: str, template: str, parser: str | None) -> None:
    assert parser_of({"model_type": model_type}, template, TOOLS, OFFERED[TOOLS]) == parser


@pytest.mark.parametrize("rules", [REASONING, TOOLS], ids=["reasoning", "tools"])
def test_every_parser_of_the_table_is_vllms(rules: tuple[Rule, ...]) -> None:
    assert {rule.parser for rule in rules} <= set(OFFERED[rules])


def test_a_parser_that_this_vllm_lacks_is_never_chosen() -> None:
    assert parser_of({"model_type": "qwen3"}, HYBRID, REASONING, ["deepseek_r1"]) is None


def test_a_model_without_a_configuration_has_no_family() -> None:
    assert parser_of({}, HYBRID, REASONING, OFFERED[REASONING]) is None
