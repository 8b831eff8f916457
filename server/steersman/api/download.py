"""A file that a client fetches: a vector, or an edit."""

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

_PIECE_BYTES = 2**16


def attachment(content: bytes, name: str) -> Response:
    """A file as an answer.

    It goes out in pieces, each as the client takes the one before: until the last of them the
    request counts for its key.

    Args:
        content: The file.
        name: Its name.

    """

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), _PIECE_BYTES):
            yield content[start : start + _PIECE_BYTES]

    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "content-length": str(len(content)),
    }
    return StreamingResponse(pieces(), 200, headers, "application/octet-stream")
