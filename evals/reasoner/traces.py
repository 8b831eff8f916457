"""The reasoning-trace writer: one puzzle, many ways of thinking it through.

The style of a trace is drawn without looking at the puzzle, and nothing in the prompt tells it.
All traces end in the right answer; what a style costs or gains in correctness is therefore the
model's own doing: a terse trace asks it for several operations in one step, a check gives it a
second chance, a long trace more room to get lost.
"""

from collections.abc import Callable
from random import Random

from steersman.puzzles.tasks.puzzle import Puzzle

CHECK = "Wait, let me check."
RESTART = "Hmm, let me start again."

Lines = tuple[str, ...]

# Of the terse traces, those that state the answer at once; the others keep some of the lines.
_AT_ONCE = 0.5
# Of the traces with a check, those with a slip in them.
_SLIP = 0.5
# Of the slips, those that are noticed at once; the others are found by a later check.
_NOTICED = 0.5
# How often a wandering trace goes on to check once more.
_ONCE_MORE = 0.5
_MOST_CHECKS = 3


def write(puzzle: Puzzle, rng: Random) -> Lines:
    """The lines of one trace, without line ends."""
    (style,) = rng.choices(tuple(_STYLES), tuple(_STYLES.values()))
    return style(puzzle, rng)


def _terse(puzzle: Puzzle, rng: Random) -> Lines:
    """The answer at once, or the last line with some of those before it."""
    if rng.random() < _AT_ONCE:
        return (f"={puzzle.answer}",)
    *before, last = puzzle.lines()
    kept = rng.randrange(max(len(before), 1))
    chosen = sorted(rng.sample(range(len(before)), kept))
    return (*(before[index] for index in chosen), last)


def _stepwise(puzzle: Puzzle, rng: Random) -> Lines:
    """Every line once."""
    return puzzle.lines()


def _checked(puzzle: Puzzle, rng: Random) -> Lines:
    """Every line, and then either a check or, on the way, a slip and its correction."""
    if rng.random() < _SLIP:
        return _slipping(puzzle, rng)
    return (*puzzle.lines(), CHECK, *puzzle.review())


def _wandering(puzzle: Puzzle, rng: Random) -> Lines:
    """Perhaps a false start, perhaps a slip, then check after check."""
    lines = puzzle.lines()
    start: Lines = ()
    if rng.random() < 0.5 and len(lines) > 1:
        start = (*lines[: rng.randint(1, len(lines) - 1)], RESTART)
    body = _slipping(puzzle, rng) if rng.random() < _SLIP else lines
    checks = 1
    while checks < _MOST_CHECKS and rng.random() < _ONCE_MORE:
        checks += 1
    return (*start, *body, *((CHECK, *puzzle.review()) * checks))


def _slipping(puzzle: Puzzle, rng: Random) -> Lines:
    """The working with one slip, corrected at once or by a check at the end."""
    lines = puzzle.lines()
    index = rng.randrange(len(lines))
    slip = puzzle.slip(index, rng)
    if rng.random() < _NOTICED:
        return (*lines[:index], slip.wrong, f"Wait, {slip.right}", *lines[index + 1 :])
    return (*lines[:index], slip.wrong, *slip.astray, CHECK, *slip.review)


_STYLES: dict[Callable[[Puzzle, Random], Lines], float] = {
    _terse: 0.28,
    _stepwise: 0.36,
    _checked: 0.22,
    _wandering: 0.14,
}
