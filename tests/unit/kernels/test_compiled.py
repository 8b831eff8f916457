"""Loops are compiled once, and read from the cache directory by the next process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json
from steersman_kernels.loops.compiled import njit

@njit()
def _add(one, other):
    return one + other

total = _add(2, 3)
hits, misses = _add.stats.cache_hits, _add.stats.cache_misses
print(json.dumps([total, sum(hits.values()), sum(misses.values())]))
"""
"""A loop of its own: those of the package bring PyTorch, which takes longer than to compile."""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def used(cache: Path) -> tuple[int, int]:
    """Loops that a new process read from its cache directory, and those that it compiled."""
    environment = {**os.environ, "STEERSMAN_CACHE": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, str(cache.parent / "program.py")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    total, hits, misses = json.loads(ran.stdout)
    assert total == 5
    return hits, misses


def test_the_next_process_reads_what_one_has_compiled(cache: Path) -> None:
    assert used(cache) == (0, 1)
    assert used(cache) == (1, 0)
    (version,) = (cache / "loops").iterdir()
    version.rename(version.with_name("0" * 16))  # as if the source had been another
    assert used(cache) == (0, 1)


def test_where_nothing_can_be_written_each_process_compiles(cache: Path) -> None:
    (cache / "loops").touch()
    assert used(cache) == (0, 1)
    assert (cache / "loops").is_file()
