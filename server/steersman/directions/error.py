"""The one error of this package."""


class DirectionError(Exception):
    """Reason why no direction can be made as asked, in one line for the user.

    Args:
        message: The fault, and what would be allowed.
        field: The option it is about, as `long_tokens`, or `samples`; of a sample that is read,
            its field. None where it is no field's.

    """

    def __init__(self, message: str, *, field: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
