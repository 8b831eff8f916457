"""Questions of a run, in their order."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from steersman.evaluate.problems import Problem
from steersman.evaluate.records import Key
from steersman.evaluate.spec import RunSpec

# JSON numbers are exact up to 2^53, and a search's branches count upwards from it.
_SEED_BITS = 48


@dataclass(frozen=True, slots=True)
class Question:
    """One request of a run."""

    control: str
    problem: Problem
    sample: int
    seed: int

    @property
    def key(self) -> Key:
        return self.control, self.problem.id, self.sample


def questions(spec: RunSpec, problems: Sequence[Problem]) -> list[Question]:
    """Every request of a run, in the order in which they are asked.

    The controls of one problem and sample follow each other, each taking its turn to be first, so
    that whatever drifts during a run hits all alike. Problems are mixed.
    """
    mixed = random.Random(spec.seed).sample(problems, len(problems))
    names = list(spec.controls)
    asked: list[Question] = []
    for sample in range(spec.samples):
        for turn, problem in enumerate(mixed):
            first = (sample + turn) % len(names)
            seed = seed_of(spec.seed, problem.id, sample)
            asked += [
                Question(name, problem, sample, seed) for name in names[first:] + names[:first]
            ]
    return asked


def seed_of(run: int, problem: str, sample: int) -> int:
    """The seed of a sample: the same under every control, so that comparisons are paired."""
    digest = hashlib.sha256(f"{run}/{sample}/{problem}".encode()).digest()
    return int.from_bytes(digest, "big") >> (8 * len(digest) - _SEED_BITS)
