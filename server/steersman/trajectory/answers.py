"""Answers of trajectories: their normal form, and a majority vote over several."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """The result of a vote.

    Attributes:
        winner: Index of the earliest voter for the winning answer.
        votes: Each distinct answer with its votes: most frequent, then earliest, first.

    """

    winner: int
    votes: tuple[tuple[str, int], ...]


def majority(answers: Sequence[str]) -> Tally:
    """Plurality vote; a tie goes to the answer that was given first.

    Args:
        answers: The answer texts of the voters in the order in which they finished. A voter
            whose answer is blank is not counted, unless all are.

    """
    keys = [canonical(answer) for answer in answers]
    votes: dict[str, int] = {}
    for key in keys:
        if key:
            votes[key] = votes.get(key, 0) + 1
    if not votes:
        return Tally(0, ())
    ranked = tuple(sorted(votes.items(), key=lambda item: -item[1]))
    return Tally(keys.index(ranked[0][0]), ranked)


def canonical(answer: str) -> str:
    r"""The part of an answer that is compared, in a normal form.

    The last `\boxed{...}` if there is one, else the last non-blank line; without math
    delimiters, thousands separators, trailing full stop, case and spacing.
    """
    boxed = last_boxed(answer)
    if boxed is None:
        lines = [line for line in answer.splitlines() if line.strip()]
        boxed = lines[-1] if lines else ""
    bare = boxed.replace("$", "").strip().rstrip(".").casefold()
    bare = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", bare)
    return re.sub(r"\s+", " ", bare).strip()


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces, or None."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    begin = start + len(r"\boxed{")
    depth = 1
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin:i]
    return None
