"""The one error of this package while a request runs."""


class RewardError(Exception):
    """A reward that gave no usable scores.

    Args:
        reward: Its name on this server.
        reason: The fault.
        timed_out: Whether the fault is that it took too long.

    """

    def __init__(self, reward: str, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(f"reward {reward!r}: {reason}")
        self.reward = reward
        self.reason = reason
        self.timed_out = timed_out

    @property
    def status(self) -> int:
        """The HTTP status that tells of it: 504 for too long, else 502."""
        return 504 if self.timed_out else 502
