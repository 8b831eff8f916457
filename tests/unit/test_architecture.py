"""Imports between the layers of `docs/architecture.md`."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "server/steersman"
CALLERS = {
    "app.py",
    "arguments.py",
    "by_model.py",
    "cli.py",
    "opening.py",
    "api/facts.py",
    "directions/offline.py",
}


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


def test_only_the_engine_the_front_end_and_its_callers_import_vllm() -> None:
    inside = (SERVER / "engine", SERVER / "frontend")
    outside = {
        str(path.relative_to(SERVER))
        for path in importers("vllm", SERVER)
        if not any(path.is_relative_to(room) for room in inside)
    }
    assert outside == CALLERS
    assert all(any(importers("vllm", room)) for room in inside)


@pytest.mark.parametrize("room", ["search", "sampling", "reward", "trajectory", "controls"])
@pytest.mark.parametrize("package", ["vllm", "torch", "steersman.engine", "steersman.frontend",
                                     "steersman.api"])  # fmt: skip
def test_methods_know_no_engine(room: str, package: str) -> None:
    assert list(importers(package, SERVER / room)) == []


def test_the_workers_know_nothing_of_the_front_end() -> None:
    for package in ("steersman.frontend", "steersman.api", "steersman.controls"):
        assert list(importers(package, SERVER / "engine")) == []


def test_imports_between_rooms_run_one_way() -> None:
    """A room is a package of the server, or a module beside the packages."""
    needs: dict[str, set[str]] = {}
    for path in sorted(SERVER.rglob("*.py")):
        room = path.relative_to(SERVER).parts[0].removesuffix(".py")
        for name in imported(path):
            if name.startswith("steersman."):
                needs.setdefault(room, set()).add(name.split(".")[1])
    order = TopologicalSorter({room: others - {room} for room, others in needs.items()})
    assert len(list(order.static_order())) > 10  # raises where there is a cycle


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
