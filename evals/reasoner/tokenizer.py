"""The tokenizer: a token a digit, sign, line end and word, and bytes for everything else."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
THINK_START = "<think>"
THINK_END = "</think>"

# Control tokens are dropped by `skip_special_tokens`; the think marks are text, as in Qwen3.
_CONTROL = (END_OF_TEXT, TURN_START, TURN_END)
_MARKS = (THINK_START, THINK_END)

# The words that the chat template itself writes.
_ROLES = ("assistant", "system", "user")

# A word with the space before it, or a single character.
_PIECE = Regex(r" ?\\?[A-Za-z]+|[\s\S]")

_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def build(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that gives every piece of `texts` a token of its own.

    Other text falls apart into bytes, so every text survives encoding and decoding.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECE, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = {piece for text in (*_ROLES, *texts) for piece, _ in splitter.pre_tokenize_str(text)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted(pieces.difference(alphabet))
    vocabulary = {token: index for index, token in enumerate([*alphabet, *words])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _CONTROL])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in _MARKS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = _TEMPLATE.read_text()
    return fast
