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


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that share engines first, and into one worker where there are several."""
    items.sort(key=lambda item: not _needs_an_engine(item))
    for item in items:
        if _needs_an_engine(item):
            item.add_marker(pytest.mark.xdist_group("engines"))


def _needs_an_engine(item: pytest.Item) -> bool:
    return any(directory in item.path.parents for directory in _ENGINES)
