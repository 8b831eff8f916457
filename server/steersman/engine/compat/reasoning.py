"""The thinking phase, as vLLM's reasoning parser and its configuration have it inside."""

from collections.abc import Collection
from typing import Any


def natural_end(config: Any) -> tuple[int, ...]:
    """The tokens that a model itself closes its thinking with.

    Args:
        config: vLLM's `ReasoningConfig`.

    """
    # Not in earlier versions of vLLM, where what is forced is the natural end.
    natural = getattr(config, "natural_reasoning_end_token_ids", None)
    return tuple(natural or config.reasoning_end_token_ids)


def ends(parser: Any) -> Collection[int]:
    """All tokens each of which ends the thinking phase for a parser; none if it names none.

    Only parsers that are made of one grammar for reasoning and tool calls do.
    """
    return frozenset(getattr(parser, "reasoning_end_token_ids", None) or ())


def turn_boundaries(parser: Any) -> frozenset[int]:
    """The tokens at which a parser knows that a turn begins or ends; none if it names none."""
    engine = getattr(parser, "_parser_engine", None)
    named = getattr(engine, "_turn_boundary_token_ids", None)
    return frozenset(named or ())
