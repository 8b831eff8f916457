"""The thinking phase as vLLM's own parsers know it, on the tokens of the built-in reasoner."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer
from vllm.reasoning import ReasoningParserManager

from steersman.frontend.reasoning import Reasoning, _takes_for_thinking

REASONER = Path(__file__).parents[3] / "server/steersman/models/reasoner"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The reasoner's, with the tokens of a tool call."""
    loaded = AutoTokenizer.from_pretrained(REASONER)
    loaded.add_tokens(["<tool_call>", "</tool_call>"], special_tokens=False)
    return loaded


def reasoning(tokenizer: Any, parser: str) -> Reasoning:
    """Reasoning of a model with this parser."""
    start, end = (tokenizer.encode(text) for text in ("<think>", "</think>"))
    generation = {"eos_token_id": [tokenizer.eos_token_id, 1]}
    config: Any = SimpleNamespace(
        reasoning_config=SimpleNamespace(
            enabled=True,
            reasoning_parser=parser,
            reasoning_start_token_ids=start,
            reasoning_end_token_ids=end,
            natural_reasoning_end_token_ids=end,
        ),
        model_config=SimpleNamespace(try_get_generation_config=lambda: generation),
    )
    return Reasoning(config, tokenizer)


def chat(tokenizer: Any, *texts: str, **options: Any) -> list[int]:
    """A rendered chat whose turns alternate."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    options = {"add_generation_prompt": True, **options}
    return list(tokenizer.apply_chat_template(messages, return_dict=False, **options))


def test_a_parser_that_parses_tool_calls_ends_the_thinking_at_one(tokenizer: Any) -> None:
    known = reasoning(tokenizer, "qwen3").markers
    assert known is not None
    assert known.implicit == (tokenizer.convert_tokens_to_ids("<tool_call>"),)
    assert known.implicit_text == ("<tool_call>",)
    assert (known.start_text, known.end_text) == ("<think>", "</think>")
    single = reasoning(tokenizer, "deepseek_r1").markers
    assert single is not None
    assert single.implicit == ()


@pytest.mark.parametrize("parser", ["qwen3", "deepseek_r1"])
def test_a_turn_that_has_not_begun_thinks_if_the_parser_says_so(
    tokenizer: Any, parser: str
) -> None:
    known = reasoning(tokenizer, parser)
    assert known.opens(chat(tokenizer, "6+9=?"))
    assert known.opens(chat(tokenizer, "What is the <think> tag?"))
    assert known.opens([*chat(tokenizer, "6+9=?"), *tokenizer.encode("<think>\n6")])
    # What is no chat is not taken for the beginning of a turn.
    assert not known.opens(tokenizer.encode("6+9=?"))


@pytest.mark.parametrize("parser", ["qwen3", "deepseek_r1"])
def test_an_answer_that_is_to_be_continued_is_no_thought(tokenizer: Any, parser: str) -> None:
    turns = ("What is the <think> tag? 6+9=?", "The answer is")
    options = {"add_generation_prompt": False, "continue_final_message": True}
    assert not reasoning(tokenizer, parser).opens(chat(tokenizer, *turns, **options))


def test_a_request_that_turns_thinking_off_does_not_think(tokenizer: Any) -> None:
    known = reasoning(tokenizer, "qwen3")
    off = {"enable_thinking": False}
    assert not known.opens(chat(tokenizer, "6+9=?", **off), {"chat_template_kwargs": off})
    # The parser is told, whatever the template does with it.
    assert not known.opens(chat(tokenizer, "6+9=?"), {"chat_template_kwargs": off})
    assert known.opens(chat(tokenizer, "6+9=?"), {"chat_template_kwargs": {}})


def test_a_parser_that_waits_for_the_marker_does_so(tokenizer: Any) -> None:
    known = reasoning(tokenizer, "deepseek_v3")
    assert not known.opens(chat(tokenizer, "What is the <think> tag?"))
    assert known.opens([*chat(tokenizer, "6+9=?"), *tokenizer.encode("<think>")])


def test_every_parser_of_vllm_says_whether_it_assumes_thinking(tokenizer: Any) -> None:
    """Also those that fail on a response without markers: a request must not fail for that."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens(["<|START_THINKING|>", "<|END_THINKING|>", "<|CHATBOT_TOKEN|>"])
    tokenizer.add_tokens(["<seed:think>", "</seed:think>", "[THINK]", "[/THINK]"])
    found = {}
    for name in ReasoningParserManager.list_registered():
        try:
            parser = ReasoningParserManager.get_reasoning_parser(name)(tokenizer)
        except (KeyError, RuntimeError, ValueError):
            continue  # it needs tokens, or a template, that this model has not
        found[name] = _takes_for_thinking(parser)
    assert found["qwen3"]
    assert found["deepseek_r1"]
    assert not found["cohere_command3"]
    assert len(found) > 20


def test_the_stops_are_the_tokenizers_and_the_generation_configs(tokenizer: Any) -> None:
    assert reasoning(tokenizer, "qwen3").stops == tuple(sorted({1, tokenizer.eos_token_id}))
