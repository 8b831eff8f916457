"""The law of a request, as its control asks for it."""

import hashlib
import json
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from steersman.wire import Law

if TYPE_CHECKING:
    from steersman_client import Balance


def asked(balance: "Balance", base: float, allowed: tuple[float, float]) -> Law:
    """The law that a request asks for, with a base strength within the vector's range."""
    return Law(
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


def digest(law: Law) -> str:
    """SHA-256, in hex, of all of a law."""
    return hashlib.sha256(json.dumps(asdict(law)).encode()).hexdigest()
