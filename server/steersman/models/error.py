"""The one error of this package."""


class ModelError(Exception):
    """Reason why a built-in model cannot be made ready, in one line for the user."""
