"""The same imports, with a Triton that runs on CPUs."""

import os
from types import SimpleNamespace

os.environ["TRITON_INTERPRET"] = "1"

from triton.backends import backends

# The interpreter, as a backend that has a driver.
backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))

from tests.engine.imported import LLM
from tests.interpreter import quicken

quicken()

__all__ = ["LLM"]
