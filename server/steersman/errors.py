"""The error that a control can end in, in the shape that OpenAI clients understand."""

from collections.abc import Iterable, Mapping
from typing import Any


class ControlError(Exception):
    """A request that cannot be served as asked. Raised before anything runs.

    Args:
        message: The fault, and what would be allowed.
        param: The request field, as a path: `control.steer[0].vector`.
        status: HTTP status.
        code: OpenAI's word for the fault; the status without one.
        headers: HTTP headers of the answer, beside those of every answer.

    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None,
        status: int = 400,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status
        self.code = code
        self.headers = headers

    @property
    def _type(self) -> str:
        """OpenAI's word for the kind of fault."""
        if self.status >= 500:
            return "server_error"
        return "invalid_request_error" if self.status != 429 else "rate_limit_error"

    def body(self) -> dict[str, Any]:
        """The response body: OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": self._type,
                "param": self.param,
                "code": self.status if self.code is None else self.code,
            }
        }


def path_of(root: str, where: Iterable[int | str]) -> str:
    """The path of a field under another one: `control.steer[0].vector`."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)


def reason_of(fault: Mapping[str, Any]) -> str:
    """The reason why a field is wrong, in the words of messages.

    Args:
        fault: One of the errors of a `ValidationError`.

    """
    match fault["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "is required"
        case _:
            reason = str(fault["msg"]).removeprefix("Value error, ")
            return reason[0].lower() + reason[1:]
