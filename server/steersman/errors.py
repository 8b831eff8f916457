"""The one error that a control can end in, in the shape that OpenAI clients understand."""

from typing import Any


class ControlError(Exception):
    """A request that cannot be served as asked. Raised before anything runs.

    Args:
        message: What is wrong and what would be allowed.
        param: The request field, as a path: `control.steer[0].vector`.
        status: HTTP status.

    """

    def __init__(self, message: str, *, param: str | None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status

    def body(self) -> dict[str, Any]:
        """The response body: OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": "invalid_request_error",
                "param": self.param,
                "code": self.status,
            }
        }
