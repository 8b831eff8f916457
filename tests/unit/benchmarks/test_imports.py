"""Names that the scripts take from the packages; nobody runs all scripts with each change."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "evals").rglob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_all_names_are_there(script: Path) -> None:
    nodes = ast.walk(ast.parse(script.read_text()))
    taken = [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steersman")
        for alias in node.names
    ]
    for place, name in taken:
        module = importlib.import_module(str(place))
        if not hasattr(module, name):
            importlib.import_module(f"{place}.{name}")
