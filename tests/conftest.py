"""Fixtures of all tests."""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# No test may depend on a hub, or wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"

# A busy machine is no failure: speed belongs to `benchmarks/`.
settings.register_profile("steersman", deadline=None)
settings.load_profile("steersman")

_ENGINES = ("tests/engine/", "tests/http/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of engines and servers first: they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(_ENGINES))


class _Modules(LoadScopeScheduling):  # type: ignore[misc]
    """Workers take modules, whose tests share fixtures; one takes all that share engines."""

    def _split_scope(self, nodeid: str) -> str:
        return "engines" if nodeid.startswith(_ENGINES) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Schedule tests that run in several workers."""
    return _Modules(config, log)
