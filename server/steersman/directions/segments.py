"""The direction of going on: where a line ends, more work or an answer against a re-check.

After SEAL (arXiv 2504.07986), which splits thinking at blank lines, tells by the text after each
split whether the model executes, reflects or switches, and takes the mean over the tokens that
split before execution, minus that before the others. Here any line splits, and the end of thinking
counts with execution. ReBalance (arXiv 2603.12372) splits alike, but averages the first token of
each step, and tells the steps apart by the model's confidence.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from steersman.directions.contrast import Contrast, Weighted, check_least, paired
from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample, closed
from steersman.trajectory.boundaries import ends_segment

RECHECK = (
    "Wait",
    "But wait",
    "Oh wait",
    "No, wait",
    "Hmm",
    "Hold on",
    "Actually",
    "Alternatively",
    "Another way",
    "Another approach",
    "Check",
    "Double",
    "Verify",
    "To check",
    "To verify",
    "To make sure",
    "Let me check",
    "Let me double",
    "Let me make sure",
    "Let me re",
    "Let me start again",
    "Let me start over",
    "Let me try another",
    "Let me verify",
    "Let's check",
    "Let's double",
    "Let's verify",
)
"""What a segment begins with that re-checks what there is, or begins anew. Where it ends in the
middle of a word it matches all of them: `Let me re` is for `Let me recheck`, `Let me re-read`."""

Next = Literal["work", "recheck", "closing"]
"""Kind of text after the end of a segment: more work, a re-check or new approach, `</think>`."""


@dataclass(frozen=True, slots=True)
class End:
    """The token that ends a segment: its position in the response, and the text after it."""

    position: int
    next: Next


def contrast(
    samples: Iterable[Sample],
    texts: Sequence[str],
    *,
    recheck: Sequence[str] = RECHECK,
    closing_only: bool = False,
    within_problems: bool = False,
    least: int = 10,
) -> Contrast:
    """Ends of segments before work or the end of thinking (plus) against those before re-checks.

    A positive strength makes re-checks fewer and thinking shorter, a negative one the contrary.
    Only the tokens that end segments are averaged; all of them are among those that a vector
    steers with `at: boundary`.

    Args:
        samples: The samples; any without a closed thinking phase is left out.
        texts: Text of each token of the vocabulary, in the order of the ids.
        recheck: Beginnings of segments that re-check or begin anew. Case does not matter.
        closing_only: Take only ends before the end of thinking on the plus side.
        within_problems: Compare ends of the same problem alone, each problem counting once. Hard
            problems have more re-checks; else what makes them hard is part of the direction.
        least: Fewest samples that make a side; within problems, fewest of these.

    Raises:
        DirectionError: A marker is blank, a token is not in the vocabulary, or too few samples have
            such ends.

    """
    check_least(least)
    pattern = recheck_pattern(recheck)
    traces = closed(samples)
    _check_vocabulary(traces, len(texts))
    before_plus = ("closing",) if closing_only else ("work", "closing")
    plus: list[Weighted] = []
    minus: list[Weighted] = []
    counts: Counter[str] = Counter(work=0, recheck=0, closing=0)
    for trace in traces:
        found = ends(trace, texts, pattern)
        counts.update(end.next for end in found)
        for side, before in ((plus, before_plus), (minus, ("recheck",))):
            positions = [end.position for end in found if end.next in before]
            if positions:
                side.append(Weighted.at(trace, positions))
    if min(len(plus), len(minus)) < least:
        raise _too_few(len(traces), len(plus), len(minus), least, closing_only)
    if within_problems:
        plus, minus = paired(plus, minus)
        if (problems := len({one.sample.problem for one in plus})) < least:
            raise DirectionError(
                f"{problems} problems have such ends on both sides, {least} are needed: take more "
                "samples of each problem",
                field="within_problems",
            )
    return Contrast.of(
        plus,
        minus,
        recheck=list(recheck),
        closing_only=closing_only,
        within_problems=within_problems,
        closed=len(traces),
        ends=dict(counts),
    )


def ends(sample: Sample, texts: Sequence[str], recheck: re.Pattern[str]) -> tuple[End, ...]:
    """The end of every segment of the thinking phase, in order.

    Segments end at tokens with a newline; if no newline stands between two pieces of text, at all
    tokens that `ends_segment` knows. Blank text is no segment: a newline right after `<think>` ends
    nothing, and what follows an end is told by the next text that is not blank.

    Args:
        sample: The sample; without a closed thinking phase it has no ends.
        texts: Text of each token of the vocabulary, in the order of the ids.
        recheck: Pattern of the beginnings of re-checks, from `recheck_pattern`.

    """
    thinking = sample.thinking or range(0)
    pieces = [texts[token] for token in sample.thinking_token_ids]
    text = "".join(pieces)
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    starts = accumulate(map(len, pieces), initial=0)
    # Position, where in the text its segment ends, and whether a line ends there.
    cuts = [
        (position, start + length, "\n" in piece)
        for position, start, piece in zip(thinking, starts, pieces, strict=False)
        if (length := _length_to_end(piece))
    ]
    by_line = any(line and first < cut < last for _, cut, line in cuts)
    return tuple(
        End(position, _next(text, cut, last, recheck))
        for position, cut, line in cuts
        if cut > first and (line or not by_line)
    )


def recheck_pattern(markers: Sequence[str]) -> re.Pattern[str]:
    """Pattern of the beginning of a re-check, after any marks and spaces: `**Wait**`, `- Wait`.

    Spaces within a marker are optional: the text of a single token can lack the one it begins with.

    Raises:
        DirectionError: There is no marker, or one is blank.

    """
    if not markers or not all(marker.strip() for marker in markers):
        raise DirectionError("give at least one marker, and none blank", field="recheck")
    either = "|".join(
        r"\s*".join(re.escape(word).replace("'", "['’]") for word in marker.split())
        for marker in markers
    )
    return re.compile(rf"[\W_]*(?:{either})", re.IGNORECASE)


def _length_to_end(piece: str) -> int:
    """Length of a token's text up to where a segment ends; 0 if none does."""
    line = piece.rfind("\n") + 1
    return line or (len(piece) if ends_segment(piece) else 0)


def _next(text: str, cut: int, last: int, recheck: re.Pattern[str]) -> Next:
    if cut >= last:
        return "closing"
    return "recheck" if recheck.match(text, cut) else "work"


def _check_vocabulary(samples: Iterable[Sample], size: int) -> None:
    token = max(max(sample.thinking_token_ids) for sample in samples)
    if token >= size:
        raise DirectionError(
            f"token {token} is not in the vocabulary of {size}: the samples are another model's",
            field="samples",
        )


def _too_few(traces: int, plus: int, minus: int, least: int, closing_only: bool) -> DirectionError:
    goal = "the end of thinking" if closing_only else "work or the end of thinking"
    if minus < least:
        field, remedy = "recheck", ", or name what this model's re-checks begin with"
    elif closing_only:
        field, remedy = "closing_only", ", or ends before work too"
    else:
        field, remedy = "samples", ""
    return DirectionError(
        f"of {traces} closed traces {plus} have a segment that ends before {goal}, {minus} one "
        f"that ends before a re-check, {least} of each are needed: take more samples{remedy}",
        field=field,
    )
