"""The one error of this package."""


class EvaluationError(Exception):
    """Reason why a run cannot be done or go on, for the user to read."""
