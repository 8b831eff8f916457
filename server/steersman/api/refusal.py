"""A refusal as an HTTP response."""

import json
from typing import Any

from starlette.responses import JSONResponse

from steersman.errors import ControlError


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
