"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test may depend on a hub, or wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"

# A busy machine is no failure: speed belongs to `benchmarks/`.
settings.register_profile("steersman", deadline=None)
settings.load_profile("steersman")


_HERE = Path(__file__).parent
_ENGINES = (_HERE / "engine", _HERE / "http")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let one worker have all tests that share engines, where there are several workers."""
    if _needs_an_engine(item):
        item.add_marker(pytest.mark.xdist_group("engines"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those tests first: they take longest."""
    items.sort(key=lambda item: not _needs_an_engine(item))


def _needs_an_engine(item: pytest.Item) -> bool:
    return any(directory in item.path.parents for directory in _ENGINES)
