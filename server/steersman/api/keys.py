"""The key that a request brings."""

from starlette.datastructures import Headers

from steersman.errors import ControlError


def bearer(headers: Headers) -> str | None:
    """The key in the `Authorization` header; None if it holds none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" and given else None


def unknown(reason: str) -> ControlError:
    """The error for a request without a key that is known."""
    return ControlError(
        reason,
        param=None,
        status=401,
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )
