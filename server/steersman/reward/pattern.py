"""Regular expressions that requests bring, run by RE2: in time linear in the text."""

from typing import Any

import re2

LONGEST = 4096
"""Characters of an expression."""


def compiled(pattern: str) -> Any:
    """An expression that is ready to search.

    Raises:
        ValueError: It is too long, or RE2 cannot parse it.

    """
    if len(pattern) > LONGEST:
        raise ValueError(f"a pattern is over {LONGEST} characters long")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"pattern {pattern[:100]!r} cannot be parsed by RE2: {said}") from None
