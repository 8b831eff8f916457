"""The reasoner's traces: every stated step is true, but for slips that are corrected."""

import re
from collections.abc import Iterator
from itertools import islice
from random import Random

import pytest
from evals.reasoner.traces import CHECK, RESTART, write

from steersman.puzzles.problems import KINDS, TRAINED, puzzles
from steersman.puzzles.tasks.count import CountPuzzle
from steersman.puzzles.tasks.countdown import value
from steersman.puzzles.tasks.puzzle import Puzzle

_EQUATION = re.compile(r"^(?:(?P<name>[a-z])=)?(?P<left>[\d+*-]+)=(?P<result>\d+)(?: (yes|no))?$")


def drawn(kind: str, count: int = 400) -> Iterator[tuple[Puzzle, tuple[str, ...]]]:
    for grade in TRAINED:
        for number, puzzle in enumerate(islice(puzzles(kind, grade, "train", 5), count)):
            yield puzzle, write(puzzle, Random(f"{grade}/{number}"))


def claims(puzzle: Puzzle, lines: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Subject of each line, and whether it is true taken by itself."""
    found = []
    for line in lines:
        if line in (CHECK, RESTART) or line == f"={puzzle.answer}":
            continue
        claim = line.removeprefix("Wait, ")
        if isinstance(puzzle, CountPuzzle):
            number, verdict, _ = claim.split()
            holds = (int(number) > puzzle.limit) == puzzle.over
            found.append((number, (verdict == "yes") == holds))
        else:
            match = _EQUATION.match(claim)
            assert match, line
            found.append(
                (match["name"] or match["left"], value(match["left"]) == int(match["result"]))
            )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_false_step_is_corrected_later(kind: str) -> None:
    slips = 0
    for puzzle, lines in drawn(kind):
        stated = claims(puzzle, lines)
        for index, (about, true) in enumerate(stated):
            if not true:
                slips += 1
                assert (about, True) in stated[index + 1 :], lines
                assert any(line.startswith("Wait, ") for line in lines), lines
    assert slips > 50


@pytest.mark.parametrize("kind", KINDS)
def test_every_trace_ends_in_the_right_answer(kind: str) -> None:
    for puzzle, lines in drawn(kind):
        last = lines[-1].removeprefix("Wait, ")
        if kind == "countdown":
            assert last.removesuffix(" yes").split("=")[0] in (puzzle.answer, "")
        else:
            assert re.split(r"[= ]", last)[-1] == puzzle.answer


@pytest.mark.parametrize("kind", KINDS)
def test_one_puzzle_is_thought_through_at_many_lengths(kind: str) -> None:
    puzzle = next(puzzles(kind, TRAINED[-1], "train", 0))
    lengths = {len(write(puzzle, Random(seed))) for seed in range(200)}
    assert 1 in lengths
    assert max(lengths) >= 2 * len(puzzle.review())
    assert len(lengths) >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_working_is_true_and_a_slip_changes_only_one_line(kind: str) -> None:
    rng = Random(0)
    for grade in TRAINED:
        for puzzle in islice(puzzles(kind, grade, "train", 7), 100):
            lines = puzzle.lines()
            assert all(true for _, true in claims(puzzle, lines))
            index = rng.randrange(len(lines))
            slip = puzzle.slip(index, rng)
            assert slip.right == lines[index]
            assert slip.wrong != slip.right
            assert [true for _, true in claims(puzzle, (slip.wrong, *slip.astray))].count(
                False
            ) == 1


def test_the_same_seed_writes_the_same_trace() -> None:
    puzzle = next(puzzles("words", 3, "train", 0))
    assert write(puzzle, Random(9)) == write(puzzle, Random(9))
