"""A client's deadline in a header, for clients and proxies that cannot write into the body.

OpenAI's clients tell of their own time-out in `x-stainless-read-timeout`, with every request and
without being asked. It is not a wish to get part of an answer, so nothing here goes by it.
"""

import math

from starlette.datastructures import Headers

from steersman.errors import ControlError

HEADER = "X-Steersman-Timeout"


def read(headers: Headers) -> float | None:
    """Seconds that a request may take; None if it does not say.

    Raises:
        ControlError: It says something else.

    """
    text = headers.get(HEADER)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ControlError(f"{HEADER} must be seconds, above 0, not {text[:40]!r}", param=None)
    return seconds
