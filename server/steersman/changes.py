"""Fields that change what is drawn, beside the temperature and what cuts distributions off.

They are those of a body. vLLM's `SamplingParams` has most of them under the same names.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import ne
from typing import Any

GRAMMARS = (
    *("structured_outputs", "response_format", "text.format"),
    *("tool_choice", "tools", "parallel_tool_calls"),
)
"""Fields that bind the output to a grammar."""

_COUNTS = "counts the tokens of one"
_LOOKS = "looks at the tokens of one"
LOST: Mapping[str, str] = {
    "presence_penalty": _COUNTS,
    "frequency_penalty": _COUNTS,
    "thinking_token_budget": _COUNTS,
    "bad_words": _LOOKS,
    "repetition_detection": _LOOKS,
    **dict.fromkeys(GRAMMARS, "asks for a grammar, whose state they do not have"),
}
"""Fields that no response can go on with in other engine requests; each with the reason."""

NEUTRAL: Mapping[str, int] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
}
"""Fields that a server may have defaults for, each with the value that changes nothing."""

_CHANGED: Mapping[str, Callable[[Any], bool]] = {
    **{name: partial(ne, value) for name, value in NEUTRAL.items()},
    "stop": bool,
    "min_tokens": bool,
    "bad_words": bool,
    "logit_bias": lambda biases: any(biases.values()),
    "allowed_token_ids": lambda _: True,
    "structured_outputs": lambda _: True,
    "thinking_token_budget": lambda _: True,
    "repetition_detection": lambda patterns: patterns.max_pattern_size > 0,
}
"""By field: whether a value that is given changes anything."""


def changes(value: Callable[[str], Any]) -> tuple[str, ...]:
    """The fields that change something.

    Args:
        value: The value of a field, as vLLM reads it; None if it is not given.

    """
    given = ((name, value(name), changed) for name, changed in _CHANGED.items())
    return tuple(name for name, value, changed in given if value is not None and changed(value))
