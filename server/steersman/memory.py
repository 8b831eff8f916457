"""The memory that this process may still take."""

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
# Limit, what is taken, and its part in files that the kernel drops when it needs room.
_V2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
_V1 = (
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    "total_inactive_file",
)


def available(cgroups: Path = _CGROUPS) -> int:
    """Bytes that can be had without swapping: of the machine, and of the container if in one."""
    free: int = psutil.virtual_memory().available
    for limit, taken, statistics, cached in (_V2, _V1):
        try:
            most, used = int((cgroups / limit).read_text()), int((cgroups / taken).read_text())
            lines = (line.split() for line in (cgroups / statistics).read_text().splitlines())
            dropped = next((int(number) for name, number in lines if name == cached), 0)
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
        free = min(free, max(0, most - used + dropped))
    return free
