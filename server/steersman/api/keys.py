"""The key that a request brings."""

import secrets
from collections.abc import Iterable

from starlette.requests import Request


def bearer(request: Request) -> str | None:
    """The key in the `Authorization` header; None if it holds none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" and given else None


def matches(given: str, keys: Iterable[str]) -> bool:
    """Tell whether a key is one of these."""
    # Headers come decoded as Latin-1, whatever the client wrote.
    content = given.encode("latin-1")
    return any(secrets.compare_digest(content, key.encode()) for key in keys)
