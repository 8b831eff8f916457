"""The reasoner's tokenizer and chat template."""

from itertools import islice, pairwise
from pathlib import Path

import pytest
from evals.reasoner.corpus import documents, prompt_text, texts
from evals.reasoner.model import load_tokenizer, token_id
from evals.reasoner.tokenizer import (
    END_OF_TEXT,
    THINK_END,
    THINK_START,
    TURN_END,
    TURN_START,
    build,
)
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build(texts(0, 300))


def test_documents_survive_a_round_trip_with_a_token_a_word(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for document in islice(documents(tokenizer, 11), 500):
        text = document.prompt + document.response
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        tokens = [str(tokenizer.decode([token])) for token in ids]
        assert not any(a.isalpha() and b.isalpha() for a, b in pairwise(tokens))


@given(text=st.text(max_size=60))
def test_any_text_survives_a_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("12+3=15\n", ["1", "2", "+", "3", "=", "1", "5", "\n"]),
        ("Wait, let me check.\n", ["Wait", ",", " let", " me", " check", ".", "\n"]),
        ("<think>\n\n</think>", ["<think>", "\n", "\n", "</think>"]),
        ("is \\boxed{7}.", ["is", " \\boxed", "{", "7", "}", "."]),
    ],
)
def test_a_token_a_digit_sign_line_end_and_word(
    tokenizer: PreTrainedTokenizerFast, text: str, pieces: list[str]
) -> None:
    ids = tokenizer(text).input_ids
    if text.startswith("is"):
        ids, pieces = tokenizer(f" {text}").input_ids, [" is", *pieces[1:]]
    assert [tokenizer.decode([token]) for token in ids] == pieces


def test_think_marks_are_text_and_turn_marks_are_not(tokenizer: PreTrainedTokenizerFast) -> None:
    marks = [TURN_START, THINK_START, THINK_END, TURN_END, END_OF_TEXT]
    ids = [token_id(tokenizer, mark) for mark in marks]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think></think>"
    assert tokenizer.eos_token == TURN_END


def test_thinking_is_left_to_the_model_or_closed_by_the_template(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    asked = "<|im_start|>user\n1+1=?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(tokenizer, "1+1=?") == asked
    assert prompt_text(tokenizer, "1+1=?", thinking=False) == f"{asked}<think>\n\n</think>\n\n"


def test_earlier_thinking_is_dropped_from_the_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "<think>\n=2\n</think>\n\nThe answer is \\boxed{2}."},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n"
        "<|im_start|>assistant\nThe answer is \\boxed{2}.<|im_end|>\n"
    )


def test_the_shipped_tokenizer_is_the_one_that_is_built(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    shipped = load_tokenizer()
    assert shipped.get_vocab() == tokenizer.get_vocab()
    assert shipped.chat_template == tokenizer.chat_template
