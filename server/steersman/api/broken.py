"""The end of a Responses stream that broke off: vLLM ends those of the other endpoints itself."""

import json

from steersman.ledger import Failure

_UNKNOWN = Failure(500, "Internal server error")


def error_event(failure: Failure | None, number: int) -> bytes:
    """OpenAI's `error` event for the fault that broke a stream off.

    Args:
        failure: The fault; None for one that is not known.
        number: Events of the stream before.

    """
    told = failure or _UNKNOWN
    event = {
        "type": "error",
        "sequence_number": number,
        "code": str(told.status),
        "message": told.message,
        "param": None,
    }
    return f"event: error\ndata: {json.dumps(event)}\n\n".encode()
