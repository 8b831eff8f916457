"""Single JSON values: numbers at the edges of their types, wrong types, odd texts, deep nesting."""

import math
import re
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_POWERS = (8, 15, 16, 24, 31, 32, 53, 63, 64)
INTEGERS = (
    *(0, 1, -1, 2, 3, 16, 17, 338, 339, 340, 383, 384, 1023, 1024, 1025, 4096, 4097),
    *(2**power + off for power in _POWERS for off in (-1, 0, 1)),
    *(-(2**power) - off for power in (31, 53, 63) for off in (0, 1)),
    *(10**20, 10**39, 10**309),
)
_MAGNITUDES = (
    *(0.0, 5e-324, 1e-310, 1e-45, 1e-38, 1e-7, 0.5, 1.0, 1.5, 20.0, 1e3),
    *(1e4, 65505.0, 1e6, 2.0**53, 1e19, 1e37, 1e38, 3.3895313892515355e38),
    *(3.4028234663852886e38, 3.4028235677973366e38, 1e39, 1e154, 1e308, 1.7976931348623157e308),
)
FLOATS = (
    *_MAGNITUDES,
    *(-magnitude for magnitude in _MAGNITUDES if magnitude in {0.0, 1.0, 1e38, 1e39, 1e308}),
    math.inf,
    -math.inf,
    math.nan,
)
TEXTS = (
    *("", " ", "0", "1", "2", "20", "-1", "1e39", "NaN", "true", "yes", "on", "null", "{}", "auto"),
    *("control", "reasoner", "closing", "<think>", "</think>", "<|im_end|>", "Wait", "\n", "\x00"),
    *("\ud800", "a\udfffb", "\ufeff", "\u202e", "é", "e\u0301", "💥", "\u2028", '"', "\\", "../.."),
    "a" * 5000,
    "💥 " * 300,
)
DEPTHS = (2, 10, 100, 400, 900, 950, 980, 990, 1000, 2000, 20_000, 100_000)

_RAW = re.compile(r'"raw:([^"]*):raw"')
_DEEP = re.compile(r'"deep:(\d+):([a-z]*):deep"')
_LITERALS = (
    *("1e999", "-1e999", "-0", "-0.0", "1E2", "20.0", "1.0", "0e0", "1e-999", "NaN", "-Infinity"),
    "1" * 400,
    "1" * 5000,
    "0." + "3" * 400,
)


def raw(literal: str) -> str:
    """A text that stands for a literal which Python's JSON encoder would not write."""
    return f"raw:{literal}:raw"


def spelled_out(text: str) -> str:
    """JSON text with what `raw` and `deep` stand for."""
    text = _RAW.sub(lambda match: match[1], text)
    return _DEEP.sub(lambda match: _nested(int(match[1]), match[2]), text)


def deep(depth: int, key: str = "") -> str:
    """A text that stands for so many arrays, or objects of one key, inside each other."""
    return f"deep:{depth}:{key}:deep"


def _nested(depth: int, key: str) -> str:
    if key:
        return f'{{"{key}":' * depth + "0" + "}" * depth
    return "[" * depth + "]" * depth


def numbers() -> SearchStrategy[Any]:
    """Numbers at the edges of every type."""
    return st.one_of(
        st.sampled_from(INTEGERS),
        st.sampled_from(FLOATS),
        st.sampled_from(FLOATS),
        st.sampled_from(_LITERALS).map(raw),
        st.integers(-(2**65), 2**65),
        st.floats(),
    )


def texts() -> SearchStrategy[str]:
    """Odd texts, lone surrogates among them."""
    return st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))


def nestings() -> SearchStrategy[str]:
    """Deep nesting, from what any parser takes to what none does."""
    return st.builds(deep, st.sampled_from(DEPTHS), st.sampled_from(("", "a", "control")))


def anything() -> SearchStrategy[Any]:
    """A value that may be of any type."""
    scalars = st.one_of(numbers(), texts(), st.booleans(), st.none())
    small = st.one_of(
        st.lists(scalars, max_size=3),
        st.dictionaries(texts(), scalars, max_size=3),
        st.just([]),
        st.just({}),
    )
    return st.one_of(numbers(), scalars, scalars, small, nestings())
