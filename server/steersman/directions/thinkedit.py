"""The direction of reasoning length: long traces against short ones.

After ThinkEdit (arXiv 2503.22048, where the direction of reasoning length is extracted): at each
layer, the mean over a trace's thinking tokens, then over the traces of more than 1000 thinking
tokens, minus the same over those of fewer than 100. The authors count the two markers with the
length, and average from the last token of the prompt on; here it is the thinking tokens alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from steersman.directions.contrast import Contrast, Weighted, check_least
from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample, closed


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of long and short traces, in thinking tokens, both included."""

    long_from: int
    short_to: int


def contrast(
    samples: Iterable[Sample],
    *,
    by: Literal["tokens", "percentiles"] = "tokens",
    long_tokens: int = 1000,
    short_tokens: int = 100,
    long_percentile: float = 90,
    short_percentile: float = 10,
    least: int = 10,
) -> Contrast:
    """Long traces (plus) against short ones (minus), over all thinking tokens.

    A positive strength lengthens thinking, a negative one shortens it. Whether answers are right is
    not looked at, and problems are not paired: hard ones have more of the long traces.

    Args:
        samples: The samples; any without a closed thinking phase is left out.
        by: Kind of the thresholds. The authors' tokens are for models of their kind, percentiles
            for any.
        long_tokens: Traces with more thinking tokens than this are long.
        short_tokens: Traces with fewer thinking tokens than this are short.
        long_percentile: Traces at or above this percentile of the lengths are long.
        short_percentile: Traces at or below this percentile of the lengths are short.
        least: Fewest traces that make a side.

    Raises:
        DirectionError: The thresholds contradict each other, or leave too few traces on a side.

    """
    check_least(least)
    if by == "tokens":
        _check_tokens(long_tokens, short_tokens)
    else:
        _check_percentiles(long_percentile, short_percentile)
    traces = closed(samples)
    lengths = sorted(trace.thinking_tokens for trace in traces)
    if by == "tokens":
        bounds = Bounds(long_from=long_tokens + 1, short_to=short_tokens - 1)
    else:
        bounds = by_percentiles(lengths, long_percentile, short_percentile)
    long = [trace for trace in traces if trace.thinking_tokens >= bounds.long_from]
    short = [trace for trace in traces if trace.thinking_tokens <= bounds.short_to]
    if min(len(long), len(short)) < least:
        side = "long" if len(long) < least else "short"
        field = f"{side}_tokens" if by == "tokens" else f"{side}_percentile"
        raise DirectionError(_too_few(lengths, bounds, least), field=field)
    return Contrast.of(
        [Weighted.over_thinking(trace) for trace in long],
        [Weighted.over_thinking(trace) for trace in short],
        by=by,
        long_from=bounds.long_from,
        short_to=bounds.short_to,
        closed=len(traces),
    )


def by_percentiles(lengths: Sequence[int], long: float, short: float) -> Bounds:
    """The bounds that percentiles of the lengths stand for, by nearest rank.

    The short ones are the shortest `short` percent, rounded up, and all that are as short; the long
    ones are the longest `100 - long` percent, rounded up, and all that are as long.

    Args:
        lengths: At least one, ascending.
        long: Percentile, over `short` and below 100.
        short: Percentile, over 0.

    Raises:
        DirectionError: Both percentiles are the same length.

    """
    bounds = Bounds(
        long_from=lengths[-ceil(len(lengths) * (100 - long) / 100)],
        short_to=lengths[ceil(len(lengths) * short / 100) - 1],
    )
    if bounds.long_from == bounds.short_to:
        raise DirectionError(
            f"long_percentile={long:g} and short_percentile={short:g} of {len(lengths)} closed "
            f"traces are both {bounds.short_to} thinking tokens: take percentiles further apart, "
            "or more samples",
            field="long_percentile",
        )
    return bounds


def _check_tokens(long: int, short: int) -> None:
    if short < 1:
        raise DirectionError(f"short_tokens={short}: must be at least 1", field="short_tokens")
    if long + 1 <= short - 1:
        raise DirectionError(
            f"long_tokens={long} is below short_tokens={short}: a trace of {long + 1} thinking "
            "tokens would be both long and short",
            field="long_tokens",
        )


def _check_percentiles(long: float, short: float) -> None:
    for field, value in (("long_percentile", long), ("short_percentile", short)):
        if not 0 < value < 100:
            raise DirectionError(f"{field}={value:g}: must be between 0 and 100", field=field)
    if long <= short:
        raise DirectionError(
            f"long_percentile={long:g} must be above short_percentile={short:g}",
            field="long_percentile",
        )


def _too_few(lengths: Sequence[int], bounds: Bounds, least: int) -> str:
    long, short = _counts(lengths, bounds)
    message = (
        f"of {len(lengths)} closed traces {long} are long ({bounds.long_from} thinking tokens or "
        f"more) and {short} short ({bounds.short_to} or fewer), {least} of each are needed"
    )
    wider = _wide_enough(lengths, bounds, least)
    if wider is None:
        return f"{message}, and no thresholds give them: take more samples"
    long, short = _counts(lengths, wider)
    return (
        f"{message}: long_tokens={wider.long_from - 1} and short_tokens={wider.short_to + 1} would "
        f"give {long} and {short}"
    )


def _wide_enough(lengths: Sequence[int], bounds: Bounds, least: int) -> Bounds | None:
    """Bounds with enough traces on both sides, moved no further than that takes; None without any.

    Where they would cross, both are set to where there are just enough.
    """
    if len(lengths) < least or lengths[-least] <= lengths[least - 1]:
        return None
    narrowest = Bounds(long_from=lengths[-least], short_to=lengths[least - 1])
    moved = Bounds(
        long_from=min(bounds.long_from, narrowest.long_from),
        short_to=max(bounds.short_to, narrowest.short_to),
    )
    return moved if moved.short_to < moved.long_from else narrowest


def _counts(lengths: Sequence[int], bounds: Bounds) -> tuple[int, int]:
    long = sum(length >= bounds.long_from for length in lengths)
    return long, sum(length <= bounds.short_to for length in lengths)
