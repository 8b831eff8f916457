"""Imports between the layers of `docs/architecture.md`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "server/steersman"
ENGINE = SERVER / "engine"
FRONT_END = {"app.py", "arguments.py", "by_model.py", "cli.py", "opening.py", "api/facts.py"}


def imported(path: Path) -> set[str]:
    """Modules that a file imports, inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def importers(package: str, tree: Path) -> Iterator[Path]:
    """Files under a directory that import a package or a module of it."""
    for path in sorted(tree.rglob("*.py")):
        if any(f"{name}.".startswith(f"{package}.") for name in imported(path)):
            yield path


def test_only_the_engine_and_the_front_ends_callers_import_vllm() -> None:
    outside = {path for path in importers("vllm", SERVER) if not path.is_relative_to(ENGINE)}
    assert {str(path.relative_to(SERVER)) for path in outside} == FRONT_END
    assert any(importers("vllm", ENGINE))


@pytest.mark.parametrize("package", ["vllm", "steersman", "steersman_client"])
def test_kernels_import_only_libraries(package: str) -> None:
    kernels = ROOT / "kernels"
    assert list(importers(package, kernels)) == []
    assert any(importers("torch", kernels))


@pytest.mark.parametrize("package", ["vllm", "steersman", "steersman_kernels", "torch"])
def test_the_client_needs_no_server(package: str) -> None:
    client = ROOT / "clients/python"
    assert list(importers(package, client)) == []
    assert any(importers("openai", client))
