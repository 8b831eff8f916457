"""A reward that is wrong now and then, as a learned one is, but by a known law.

1 for a right answer and 0 for another; the other way round for a tenth of the responses; and to
that a fifth of Student's t with two degrees of freedom is added, whose tails are heavy: among many
responses the one with the highest score is rather a lucky one than a right one. All of it is a
function of the problem and of the response's text, thinking included, so it can be computed for any
response afterwards. The server gets it by `--rewards evals/evidence/rewards/noisy.yaml`.
"""

import hashlib
import math
from collections.abc import Sequence

from steersman.puzzles.problems import Problem, verify
from steersman.reward.candidate import Candidate
from steersman.reward.reward import LARGEST

FLIPPED = 0.1
"""Share of the responses that are taken for the opposite."""
SPREAD = 0.2
"""Multiplier of the noise."""


def score(candidates: Sequence[Candidate]) -> list[float]:
    """Scores of responses; `data` has the id of the problem, and a right answer (`reference`)."""
    return [
        judged(one.data.problem, one.data.reference, one.thinking, one.answer or "")
        for one in candidates
    ]


def judged(problem: str, reference: str, thinking: str, answer: str) -> float:
    """Score of a response of the reasoner, within ±40.

    Args:
        problem: Id of the problem.
        reference: A right answer to it.
        thinking: Text of the thinking, without its markers.
        answer: Text behind it.

    """
    flip, noise = _uniform(problem, thinking, answer)
    right = is_right(problem, reference, answer) ^ (flip < FLIPPED)
    return max(-LARGEST, min(LARGEST, right + SPREAD * _student(noise)))


def is_right(problem: str, reference: str, answer: str) -> bool:
    """True if an answer solves a problem of the reasoner."""
    kind = problem.partition("-")[0]
    return verify(Problem(problem, kind, 0, "", reference), f"</think>{answer}")


def _uniform(problem: str, thinking: str, answer: str) -> tuple[float, float]:
    """Two numbers between 0 and 1 that a response has for good; white space does not count."""
    parts = ("".join(part.split()) for part in (problem, thinking, answer))
    digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest()
    first, second = (int.from_bytes(half, "big") >> 12 for half in (digest[:8], digest[8:]))
    return (first + 0.5) / 2**52, (second + 0.5) / 2**52  # neither is ever rounded to 0 or 1


def _student(share: float) -> float:
    """Quantile of Student's t with two degrees of freedom."""
    return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
