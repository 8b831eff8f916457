"""The one error of this package."""


class ModelError(Exception):
    """Why a built-in model cannot be made ready, in one line for the user."""
