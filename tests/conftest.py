"""Fixtures of all tests."""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests import bytecode as bytecode

# No test may depend on a hub, or wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"

# A busy machine is no failure: speed belongs to `benchmarks/`.
settings.register_profile("steersman", deadline=None)
settings.load_profile("steersman")

_SHARED = {"tests/engine/": "engines", "tests/http/": "servers"}
"""Directories whose tests share what takes long to start."""

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the other cores have work


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make test-scale` and `make test-image` say what the HTTP tests run on."""
    parser.addoption(
        "--on", choices=("tensor", "pipeline", "data", "replicas", "image"), default=None
    )


def _scope(nodeid: str) -> str:
    shared = (name for directory, name in _SHARED.items() if nodeid.startswith(directory))
    return next(shared, nodeid.partition("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first: the tests of engines and of servers, then of kernels."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        scope = _scope(item.nodeid)
        return scope not in _SHARED.values(), not scope.startswith("tests/unit/kernels/")

    items.sort(key=place)


class _Scopes(LoadScopeScheduling):  # type: ignore[misc]
    """Workers take a module each, or everything that shares engines or servers."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Schedule tests that run in several workers."""
    return _Scopes(config, log)
