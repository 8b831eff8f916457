"""Copies of a text go on as the text itself would, whatever the tokenizer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast
from vllm.sampling_params import SamplingParams

from steersman.engine.compat.detokenizer import JoinedText
from tests.unit.frontend.test_source import TOKENIZER


def sentencepiece() -> PreTrainedTokenizerFast:
    """Pieces with their spaces, a token for each byte besides, and special tokens."""
    pieces = ["<s>", "</s>", "▁", "▁a", "a", "b", ".", "é", "▁→"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    model.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    model.add_special_tokens([AddedToken(one, special=True) for one in pieces[:2]])
    return PreTrainedTokenizerFast(tokenizer_object=model)


SENTENCEPIECE = sentencepiece()
TOKENIZERS: dict[str, Any] = {
    "bytes": TOKENIZER,
    "sentencepiece": SENTENCEPIECE,
    "python": ByT5Tokenizer(),
}
SPLIT = {
    name: [token for character in "é→😀" for token in tokenizer.encode(character)]
    for name, tokenizer in (("bytes", TOKENIZER), ("python", TOKENIZERS["python"]))
} | {"sentencepiece": [9 + byte for byte in "é→😀".encode()]}
"""Tokens of characters that are several."""
PARAMS = st.builds(
    SamplingParams,
    max_tokens=st.none(),
    stop=st.sampled_from([[], ["a"], [" a", "é"]]),
    min_tokens=st.sampled_from([0, 3]),
    include_stop_str_in_output=st.booleans(),
    skip_special_tokens=st.booleans(),
    spaces_between_special_tokens=st.booleans(),
)


def told(text: JoinedText, token_ids: list[int]) -> list[tuple[str | None, int, str]]:
    """A text as tokens come, one after another: stop string, tokens and new text."""
    said = []
    for token in token_ids:
        stop = text.add([token])
        said.append((stop, text.tokens, text.text(ended=stop is not None)))
    return said


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data(), params=PARAMS)
def test_a_copy_goes_on_as_if_it_were_read_anew(
    name: str, data: st.DataObject, params: SamplingParams
) -> None:
    tokenizer = TOKENIZERS[name]
    token = st.one_of(
        st.integers(0, 258 if name == "python" else 255), st.sampled_from(SPLIT[name])
    )
    tokens = st.lists(token, max_size=12)
    prompt, before, more, after, other = (data.draw(tokens) for _ in range(5))
    first = JoinedText.after(tokenizer, prompt, params)
    if first.add(before) or first.add(more):
        return  # a stop string is complete: nothing goes on from there
    anew = JoinedText.after(tokenizer, prompt, params)
    assert anew.add(before + more) is None

    copy = first.copied()
    assert list(copy.token_ids) == list(anew.token_ids) == before + more
    assert copy.text(ended=False) == anew.text(ended=False)
    told(first.copied(), other)  # leaves the first as it is
    assert told(copy, after) == told(anew, after)
    assert copy.text(ended=True) == anew.text(ended=True)
    assert list(copy.token_ids) == list(anew.token_ids)

    again = JoinedText.after(tokenizer, prompt, params)
    again.add(before + more)
    assert told(first, after) == told(again, after)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_copy_may_begin_within_a_character(name: str) -> None:
    tokens, params = SPLIT[name], SamplingParams(max_tokens=None)
    for cut in range(len(tokens)):
        first = JoinedText.after(TOKENIZERS[name], [], params)
        first.add(tokens[:cut])
        copies = [first.copied(), first.copied()]
        for copy in copies:
            told(first.copied(), tokens[-2:])
            copy.add(tokens[cut:])
            assert copy.text(ended=True) == "é→😀"


def test_without_a_tokenizer_there_are_tokens_and_no_text() -> None:
    first = JoinedText.after(None, [1], SamplingParams(detokenize=False))
    first.add([4, 5])
    copy = first.copied()
    copy.add([6])
    assert (list(copy.token_ids), copy.text(ended=True)) == ([4, 5, 6], "")
    assert list(first.token_ids) == [4, 5]
