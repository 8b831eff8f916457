"""Result of a run, as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.soak import run, verdict
from tests.soak.run import Options, Seen
from tests.soak.verdict import Finding

_POINTS = 60
_MIB = 2**20


def result(
    seen: Seen, options: Options, findings: Sequence[Finding], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """The measurements behind the findings, and the findings.

    Args:
        seen: The run.
        options: Its options.
        findings: The verdict on each criterion.
        machine: The machine and the versions.

    """
    begins = seen.seconds * verdict.WARM_UP
    found = verdict.latency(seen.asked, begins, seen.seconds)
    return {
        "what": "sound requests of these kinds, from clients that come and go",
        "passed": verdict.passed(findings),
        "findings": [asdict(one) for one in findings],
        "seconds": round(seen.seconds, 1),
        "warm_up_seconds": round(begins, 1),
        "seed": options.seed,
        "clients": run.STAYING + run.KILLED,
        "requests": len(seen.asked),
        "hung_up": sum(one.cut for one in seen.asked),
        "by_kind": dict(sorted(Counter(one.kind for one in seen.asked).items())),
        "kills": [round(one, 1) for one in seen.kills],
        "memory": {
            name: {
                "mib": round(line.middle, 1),
                "middle_seconds": round(line.at, 1),
                "mib_an_hour": round(line.slope * 3600, 2),
                "interval": [round(one * 3600, 2) for one in (line.low, line.high)],
                "series": _thinned(_series(seen, name)),
            }
            for name, line in verdict.growth(seen).items()
        },
        "latency": None
        if found is None
        else {
            "ratio": [round(one, 3) for one in found.ratio],
            "windows": [(round(at, 1), round(p99, 3)) for at, p99 in found.windows],
        },
        "requests_by_minute": _by_minute(seen),
        "machine": dict(machine),
    }


def _series(seen: Seen, name: str) -> list[tuple[float, float]]:
    """MiB of a process, or of all of them, and when."""
    if name in seen.memory:
        return [(time, size / _MIB) for time, size in seen.memory[name]]
    whole: Counter[float] = Counter()
    for sizes in seen.memory.values():
        whole.update(dict(sizes))
    return [(time, size / _MIB) for time, size in sorted(whole.items())]


def _thinned(series: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so many that a picture needs no more."""
    each = -(-len(series) // _POINTS)
    parts = [series[start : start + each] for start in range(0, len(series), each or 1)]
    return [
        (
            round(sum(time for time, _ in part) / len(part), 1),
            round(sum(size for _, size in part) / len(part), 2),
        )
        for part in parts
    ]


def _by_minute(seen: Seen) -> list[int]:
    counts = Counter(int(one.ended // 60) for one in seen.asked)
    return [counts[minute] for minute in range(int(seen.seconds // 60) + 1)]
