"""Criteria of a soak, and whether a run meets them."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tests.fuzz.invariants import Violation
from tests.soak.pool import Asked
from tests.soak.run import Seen
from tests.soak.trend import BLOCKS, Trend, trend

WARM_UP = 1 / 3
"""Share of a run that is not judged: vLLM's worker grows in its first thousands of requests."""
GROWTH = 32.0
"""MiB an hour that a process may grow: 600 bytes a request, at 15 requests a second."""
SLOWER = 1.5
"""Factor by which the 99th percentile of the latency may be larger at the end."""
WINDOWS = 12
"""Parts of the judged time, each with a percentile of its own."""
FEWEST = 100
"""Requests that have a 99th percentile."""
_HOUR = 3600.0
_MIB = 2.0**20
_SHOWN = 3
_THERE = 0.9
"""Share of the judged time in which a process must have been there to be judged by itself."""

Holds = Literal["holds", "broken", "undecided"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A criterion, and what a run says of it.

    Attributes:
        name: The criterion.
        holds: Whether it is met; undecided if the run was too short, or the machine too uneven.
        detail: The measurement.

    """

    name: str
    holds: Holds
    detail: str


@dataclass(frozen=True, slots=True)
class Latency:
    """99th percentiles of the latency over the judged time.

    Attributes:
        windows: The middle of each window, and its percentile. A latency is over the median of its
            kind, so that windows with other kinds of requests are alike.
        trend: Of their logarithms.

    """

    windows: Sequence[tuple[float, float]]
    trend: Trend

    @property
    def ratio(self) -> tuple[float, float, float]:
        """End over beginning, by the fitted line, and its 95 % interval."""
        (first, _), *_, (last, _) = self.windows
        span, line = last - first, self.trend
        low, middle, high = (math.exp(one * span) for one in (line.low, line.slope, line.high))
        return middle, low, high


def judged(
    seen: Seen, held: Mapping[str, float], changed: Sequence[Violation]
) -> Sequence[Finding]:
    """All criteria.

    Args:
        seen: The run.
        held: Things that the idle server still holds at its end.
        changed: Seeded plain requests whose answers are not what they were.

    """
    return [*_lives(seen), *_rules(seen), *_ends(held, changed), *_memory(seen), _latency(seen)]


def passed(findings: Sequence[Finding]) -> bool:
    """True if every criterion holds."""
    return all(one.holds == "holds" for one in findings)


def growth(seen: Seen) -> dict[str, Trend]:
    """MiB over seconds of each process that was there in the judged time, and of all together."""
    begins = seen.seconds * WARM_UP
    series = {
        name: [(time, size) for time, size in sizes if time >= begins]
        for name, sizes in seen.memory.items()
    }
    longest = max((len(sizes) for sizes in series.values()), default=0)
    whole: Counter[float] = Counter()
    for sizes in series.values():
        whole.update(dict(sizes))
    stays = {name: sizes for name, sizes in series.items() if len(sizes) > _THERE * longest}
    series = {**stays, "all processes": sorted(whole.items())}  # type: ignore[dict-item]
    return {
        name: trend([time for time, _ in sizes], [size / _MIB for _, size in sizes])
        for name, sizes in series.items()
        if len(sizes) >= BLOCKS
    }


def latency(asked: Sequence[Asked], begins: float, ends: float) -> Latency | None:
    """99th percentiles of requests that ended in this time; None if there are too few."""
    counted = [one for one in asked if begins <= one.ended < ends and not one.cut]
    by_kind: dict[str, list[float]] = defaultdict(list)
    for one in counted:
        by_kind[one.kind].append(one.seconds)
    usual = {kind: statistics.median(seconds) for kind, seconds in by_kind.items()}
    windows: list[list[float]] = [[] for _ in range(WINDOWS)]
    width = (ends - begins) / WINDOWS
    for one in counted:
        place = min(int((one.ended - begins) / width), WINDOWS - 1)
        windows[place].append(one.seconds / usual[one.kind])
    if min(map(len, windows)) < FEWEST:
        return None
    middles = [begins + (number + 0.5) * width for number in range(WINDOWS)]
    percentiles = [float(np.quantile(window, 0.99)) for window in windows]
    logs = [math.log(one) for one in percentiles]
    return Latency(list(zip(middles, percentiles, strict=True)), trend(middles, logs, WINDOWS))


def _lives(seen: Seen) -> Iterator[Finding]:
    dead = f"it died after {seen.died:.0f} s" if seen.died is not None else "it does"
    yield Finding("the server lives", "holds" if seen.died is None else "broken", dead)
    whole = Counter(one.kind for one in seen.asked if not one.cut)
    missing = [kind for kind in seen.kinds if not whole[kind]]
    cut = sum(one.cut for one in seen.asked)
    met = cut and seen.kills and not missing
    detail = (
        f"{len(seen.asked)} requests, {cut} clients hung up, {len(seen.kills)} times a pool of "
        f"clients was killed; never answered: {', '.join(missing) or 'none'}"
    )
    yield Finding("all kinds of requests and ends", "holds" if met else "undecided", detail)


def _rules(seen: Seen) -> Iterator[Finding]:
    faults = Counter(f"{one.kind}: {fault}" for one in seen.asked for fault in one.faults)
    shown = "; ".join(f"{count} × {fault}" for fault, count in faults.most_common(_SHOWN))
    answered = sum(not one.cut for one in seen.asked)
    yield Finding(
        "every answer is whole, with a receipt whose books add up",
        "broken" if faults else "holds" if answered else "undecided",
        shown or f"{answered} answers",
    )


def _ends(held: Mapping[str, float], changed: Sequence[Violation]) -> Iterator[Finding]:
    yield Finding(
        "no request is left in the idle server",
        "broken" if held else "holds",
        ", ".join(f"{name} {value:g}" for name, value in held.items()) or "nothing is held",
    )
    yield Finding(
        "seeded plain requests have the answers that they had before",
        "broken" if changed else "holds",
        "; ".join(one.detail for one in changed[:_SHOWN]) or "all the same",
    )


def _memory(seen: Seen) -> Iterator[Finding]:
    lines = growth(seen)
    for name, line in lines.items():
        low, slope, high = (one * _HOUR for one in (line.low, line.slope, line.high))
        yield Finding(
            f"memory of {name} grows by less than {GROWTH:g} MiB an hour",
            _below(low, high, GROWTH),
            f"{slope:+.1f} MiB an hour (95 %: {low:+.1f} to {high:+.1f}), at {line.middle:.0f} MiB",
        )
    if not lines:
        yield Finding("memory does not grow", "undecided", "too few measurements")


def _latency(seen: Seen) -> Finding:
    name = f"99th percentile of the latency rises by less than a factor {SLOWER:g}"
    found = latency(seen.asked, seen.seconds * WARM_UP, seen.seconds)
    if found is None:
        return Finding(name, "undecided", f"fewer than {FEWEST} requests in a window")
    ratio, low, high = found.ratio
    return Finding(name, _below(low, high, SLOWER), f"{ratio:.2f} (95 %: {low:.2f} to {high:.2f})")


def _below(low: float, high: float, most: float) -> Holds:
    """Verdict on a number by its interval."""
    if high <= most:
        return "holds"
    return "broken" if low > most else "undecided"
