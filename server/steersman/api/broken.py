"""The end of a Responses stream that broke off: vLLM ends those of the other endpoints itself."""

import json
from collections.abc import Iterator

from vllm.exceptions import GenerationError


def error_event(error: Exception, number: int) -> bytes:
    """OpenAI's `error` event for what broke a stream off.

    Args:
        error: The exception that came out of vLLM's application.
        number: Events of the stream before.

    """
    told = next((one for one in _behind(error) if isinstance(one, GenerationError)), None)
    event = {
        "type": "error",
        "sequence_number": number,
        "code": str(told.status_code.value if told is not None else 500),
        "message": str(told) if told is not None else "Internal server error",
        "param": None,
    }
    return f"event: error\ndata: {json.dumps(event)}\n\n".encode()


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from, or while handling."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__
