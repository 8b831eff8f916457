"""The one error of this package while a request runs."""


class RewardError(Exception):
    """A reward that gave no usable scores.

    Args:
        reward: Its name on this server.
        reason: The fault.
        timed_out: Whether the fault is that it took too long.
        refused: Whether the server does not ask it any more.

    """

    def __init__(
        self, reward: str, reason: str, *, timed_out: bool = False, refused: bool = False
    ) -> None:
        super().__init__(f"reward {reward!r}: {reason}")
        self.reward = reward
        self.reason = reason
        self.timed_out = timed_out
        self.refused = refused

    @property
    def status(self) -> int:
        """The HTTP status that tells of it: 503 if refused, 504 for too long, else 502."""
        if self.refused:
            return 503
        return 504 if self.timed_out else 502
