"""The end of a Responses stream that broke off: vLLM ends those of the other endpoints itself."""

import json

from steersman.frontend.failure import told_of


def error_event(error: Exception, number: int) -> bytes:
    """OpenAI's `error` event for the exception that broke a stream off.

    Args:
        error: The exception that came out of vLLM's application.
        number: Events of the stream before.

    """
    status, message = told_of(error)
    event = {
        "type": "error",
        "sequence_number": number,
        "code": str(status),
        "message": message,
        "param": None,
    }
    return f"event: error\ndata: {json.dumps(event)}\n\n".encode()
