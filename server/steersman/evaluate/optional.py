"""Packages that only evaluation needs: an extra of the distribution."""

from importlib import import_module, util
from types import ModuleType

from steersman.evaluate.error import EvaluationError

ALWAYS = ("matplotlib",)


def load(module: str) -> ModuleType:
    """Import a module of the `eval` extra.

    Raises:
        EvaluationError: It is not installed.

    """
    require(module)
    return import_module(module)


def require(*modules: str) -> None:
    """Find modules of the `eval` extra without importing them.

    Raises:
        EvaluationError: One is not installed.

    """
    for module in modules:
        if util.find_spec(module) is None:
            raise EvaluationError(f"{module} is not installed: install steersman[eval]")
