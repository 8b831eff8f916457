"""Trials: short ways on from an uncertain token, and which of them is the likeliest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from steersman.trajectory.trajectory import OutputT, Trajectory
from steersman_client import Cautious
from steersman_kernels.layout import Value

Ends = Callable[[Trajectory[OutputT], int], bool]
"""Tells whether a trial ends at the token of a trajectory with this index."""


def number_of_trials(entropy: float, spec: Cautious) -> int:
    """The number of trials at a token ([CNTP](https://arxiv.org/abs/2507.03038), section 3).

    With h the entropy's place between `min_entropy` and `max_entropy`, from 0 to 1: the authors'
    code has `int(1 + (max_trials - 1) h)`, their paper `max(1, floor(max_trials h))`.

    Args:
        entropy: Of the distribution that the token is drawn from, nats; NaN counts as certain.
        spec: The bounds, and which of the two.

    """
    if not entropy > spec.min_entropy:
        return 1
    place = min(1.0, (entropy - spec.min_entropy) / (spec.max_entropy - spec.min_entropy))
    if spec.schedule == "paper":
        return max(1, int(spec.max_trials * place))
    return int(1 + (spec.max_trials - 1) * place)


def known(trajectory: Trajectory[OutputT]) -> int:
    """Tokens of a trajectory that are there with their measurements."""
    track = trajectory.track
    return 0 if track is None else min(len(trajectory.token_ids), len(track.values))


def complete(trajectory: Trajectory[Any]) -> bool:
    """Tell whether a trajectory has all its tokens: it has ended, and not because of a fault."""
    return not trajectory.running and not trajectory.failed


def value(trajectory: Trajectory[OutputT], index: int) -> Value:
    """Measurements of a token that is `known`."""
    assert trajectory.track is not None
    return Value.of(trajectory.track.values[index])


@dataclass(slots=True, eq=False)
class Trial(Generic[OutputT]):
    """A way on from an uncertain token.

    Attributes:
        number: Its place among the trials, from 0.
        trajectory: The trajectory that it is a part of.
        begin: Index of its first token.
        end: Index after its last token; None while it runs.

    """

    number: int
    trajectory: Trajectory[OutputT]
    begin: int
    end: int | None = None
    _read: int = 0
    _drawn: int = 0
    _logprobs: float = 0.0

    @property
    def logprob(self) -> float:
        """Mean log-probability of its drawn tokens, in the distributions that they were drawn from;
        the perplexity is exp(-mean). Minus infinity if none was drawn."""
        return self._logprobs / self._drawn if self._drawn else float("-inf")

    @property
    def tokens(self) -> int:
        """Its tokens so far."""
        return self._read

    def read(self, ends: Ends[OutputT], most: int) -> None:
        """Read the tokens that have come, up to its end.

        Args:
            ends: Where it ends.
            most: Tokens at which it ends at the latest.

        """
        trajectory = self.trajectory
        while self.end is None and self.begin + self._read < known(trajectory):
            index = self.begin + self._read
            measured = value(trajectory, index)
            if not measured.forced:
                self._drawn += 1
                self._logprobs += measured.processed_logprob
            self._read += 1
            if self._read == most or ends(trajectory, index):
                self.end = index + 1
        if self.end is None and complete(trajectory):
            self.end = self.begin + self._read


def likeliest(trials: Sequence[Trial[OutputT]]) -> Trial[OutputT]:
    """The trial of the lowest perplexity; among equals the one of the lowest number."""
    return max(trials, key=lambda trial: (trial.logprob, -trial.number))
