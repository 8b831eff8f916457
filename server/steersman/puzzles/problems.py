"""Problems with exact verifiers, split so that no operand multiset is in both splits."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from steersman.puzzles.tasks import TASKS
from steersman.puzzles.tasks.countdown import numbers_in, value
from steersman.puzzles.tasks.puzzle import Puzzle

Split = Literal["train", "held_out"]

KINDS = tuple(TASKS)
# Grades the model is trained on, and harder ones that it never sees.
TRAINED = (1, 2, 3, 4)
BEYOND = (5, 6)

# One operand multiset in this many is held out.
_HELD_OUT_SHARE = 8
# Draws in a row without a new problem after which a cell counts as exhausted.
_PATIENCE = 1_000

_BOX = re.compile(r"\\boxed\{([^{}]*)\}")


@dataclass(frozen=True)
class Problem:
    """One question; `answer` is the content of a right final box (for countdown: one of them)."""

    id: str
    kind: str
    difficulty: int
    prompt: str
    answer: str


def problems(kind: str, difficulty: int, split: Split, seed: int, count: int) -> list[Problem]:
    """`count` distinct problems, the same for the same arguments.

    Raises ValueError for an unknown kind, difficulty or split, for a training problem of a grade
    that is never trained on, and when the cell holds fewer than `count` problems.
    """
    found: dict[str, Problem] = {}
    repeats = 0
    for puzzle in puzzles(kind, difficulty, split, seed):
        if len(found) >= count:
            break
        if puzzle.prompt in found:
            repeats += 1
            if repeats > _PATIENCE:
                raise ValueError(f"count={count}: only {len(found)} such problems were found")
            continue
        repeats = 0
        digest = hashlib.sha256(puzzle.prompt.encode()).hexdigest()[:10]
        found[puzzle.prompt] = Problem(
            f"{kind}-{difficulty}-{digest}", kind, difficulty, puzzle.prompt, puzzle.answer
        )
    return list(found.values())


def puzzles(kind: str, difficulty: int, split: Split, seed: int | str) -> Iterator[Puzzle]:
    """An endless stream of puzzles, not necessarily distinct; errors as in `problems`."""
    if kind not in TASKS:
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
    if split not in ("train", "held_out"):
        raise ValueError(f"split={split!r}: must be train or held_out")
    allowed = TRAINED if split == "train" else TRAINED + BEYOND
    if difficulty not in allowed:
        raise ValueError(f"difficulty={difficulty}: must be one of {allowed} in split {split}")
    rng = Random(f"{kind}/{difficulty}/{split}/{seed}")
    draw = TASKS[kind]
    while True:
        puzzle = draw(rng, difficulty)
        if split_of(puzzle.operands) == split:
            yield puzzle


def split_of(operands: tuple[int, ...]) -> Split:
    """The split of a multiset of operands; order and kind of problem do not matter."""
    key = ",".join(map(str, sorted(operands)))
    digest = hashlib.sha256(key.encode()).digest()
    return "held_out" if int.from_bytes(digest[:4], "big") % _HELD_OUT_SHARE == 0 else "train"


def final_answer(text: str) -> str | None:
    """The last box after the last `</think>`; None when thinking never closed or no box came."""
    _, closed, answer = text.rpartition("</think>")
    boxes = _BOX.findall(answer) if closed else []
    return boxes[-1].strip() if boxes else None


def verify(problem: Problem, text: str) -> bool:
    """True if the complete response `text`, thinking included, ends in a right final box.

    Countdown accepts every expression that uses the given numbers once each and hits the target.
    """
    answer = final_answer(text)
    if answer is None:
        return False
    if problem.kind != "countdown":
        return answer == problem.answer
    try:
        return (numbers_in(answer), value(answer)) == (
            numbers_in(problem.answer),
            value(problem.answer),
        )
    except ValueError:
        return False
