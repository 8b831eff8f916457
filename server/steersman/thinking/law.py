"""The law by which a vector's strength follows the thinking phase."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from steersman.wire import LawMessage

if TYPE_CHECKING:
    from steersman_client import Balance
    from steersman_kernels.layout import LawKind


@dataclass(frozen=True, slots=True)
class Law:
    """A law with all its numbers.

    Attributes:
        kind: `proportional` to the error of the entropy, or ReBalance's (arXiv 2603.12372) function
            of the `confidence`.
        target: Set point of `proportional`: mean entropy of a sentence, in nats.
        gain: Strength for a nat of error.
        integral_gain: Strength for a nat of summed errors.
        base: Strength before the first sentence has ended, and of `confidence` at its middle.
        low: The smallest strength.
        high: The largest strength.
        confidence: Mean top probability of a sentence, low and high.
        variance: Variance of that between two sentences, low and high.

    """

    kind: "LawKind"
    target: float
    gain: float
    integral_gain: float
    base: float
    low: float
    high: float
    confidence: tuple[float, float]
    variance: tuple[float, float]

    @classmethod
    def of(cls, balance: "Balance", base: float, allowed: tuple[float, float]) -> "Law":
        """The law that a request asks for, with a base strength within the vector's range."""
        return cls(
            kind=balance.law,
            target=balance.target_entropy or 0.0,
            gain=balance.gain,
            integral_gain=balance.integral_gain,
            base=base,
            low=allowed[0],
            high=allowed[1],
            confidence=balance.confidence,
            variance=balance.variance,
        )

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all of it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    def message(self) -> LawMessage:
        """The form in which it travels with a request."""
        return LawMessage(**asdict(self))
