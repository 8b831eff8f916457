"""A refusal as an HTTP response."""

import json
from typing import Any

from starlette.responses import JSONResponse

from steersman.errors import ControlError

_BUSY = 503
"""Status of a full queue, and of a server that ends."""


def refuses(status: int) -> bool:
    """Tell whether an answer says that the request cannot be served, or not now; else, or if it is
    none, it is a success or a fault of the server."""
    return 400 <= status < 500 or status == _BUSY


class Refusal(JSONResponse):
    """The answer to a request that cannot be served as asked: OpenAI's error object.

    Args:
        error: The reason.

    """

    def __init__(self, error: ControlError) -> None:
        super().__init__(error.body(), error.status, error.headers)

    def render(self, content: Any) -> bytes:
        # All in ASCII: what it quotes of the request need not be encodable.
        return json.dumps(content, separators=(",", ":")).encode()
