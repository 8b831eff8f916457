"""Loops are compiled once, and read from the cache directory by the next process."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json
import numpy as np
from steersman_kernels.loops.accumulate import _add

part = np.zeros(2, np.float32)
square = _add(np.array([3, 4], np.float32), np.float32(2), part)
hits, misses = _add.stats.cache_hits, _add.stats.cache_misses
print(json.dumps([float(square), part.tolist(), sum(hits.values()), sum(misses.values())]))
"""


def used(cache: Path) -> tuple[int, int]:
    """Loops that a new process read from its cache directory, and those that it compiled."""
    environment = {**os.environ, "STEERSMAN_CACHE": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    square, part, hits, misses = json.loads(ran.stdout)
    assert square == 25
    assert part == [6, 8]
    return hits, misses


def test_the_next_process_reads_what_one_has_compiled(tmp_path: Path) -> None:
    assert used(tmp_path) == (0, 1)
    assert used(tmp_path) == (1, 0)
    (version,) = (tmp_path / "loops").iterdir()
    version.rename(version.with_name("0" * 16))  # as if the source had been another
    assert used(tmp_path) == (0, 1)


def test_where_nothing_can_be_written_each_process_compiles(tmp_path: Path) -> None:
    (tmp_path / "loops").touch()
    assert used(tmp_path) == (0, 1)
    assert (tmp_path / "loops").is_file()
