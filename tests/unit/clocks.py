"""Clocks of a test: the steady one that goes by seconds, and the one on the wall, which jumps."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

NOON = 1_800_000_000.0
"""Seconds since 1970 at which the wall clock starts."""


class Clocks(ModuleType):
    """A stand-in for the module `time`.

    Attributes:
        passed: Seconds that have really passed.
        jumped: Seconds by which somebody has set the wall clock forward.

    """

    def __init__(self) -> None:
        super().__init__("time")
        self.passed = 0.0
        self.jumped = 0.0

    def monotonic(self) -> float:
        return self.passed

    perf_counter = monotonic

    def monotonic_ns(self) -> int:
        return round(self.passed * 1e9)

    def time(self) -> float:
        return NOON + self.passed + self.jumped

    def time_ns(self) -> int:
        return round(self.time() * 1e9)

    def reading(self, monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
        """A second copy of a module, which reads these clocks."""
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "time", self)
            spec.loader.exec_module(module)
        return module
