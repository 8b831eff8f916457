"""First words of docstrings: none that makes a riddle of the thing it names."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TREES = ("server", "kernels", "clients", "tests", "evals", "benchmarks", "deploy")
EXCEPTIONS = Path(__file__).with_suffix(".toml")
FORBIDDEN = frozenset(
    ("How", "That", "Those", "What", "When", "Where", "Whether", "Which", "Who", "Whom", "Why")
)

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def riddles(source: str) -> Iterator[str]:
    """First lines of the docstrings that begin with a question word or a bare pronoun."""
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if text and text.split()[0].rstrip(".,:;'’") in FORBIDDEN:
            yield text.splitlines()[0]


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    paths = [path for tree in TREES for path in sorted((ROOT / tree).rglob("*.py"))]
    every = {str(path.relative_to(ROOT)): list(riddles(path.read_text())) for path in paths}
    return {path: lines for path, lines in every.items() if lines}


def test_no_docstring_begins_with_a_riddle(found: dict[str, list[str]]) -> None:
    allowed = tomllib.loads(EXCEPTIONS.read_text())
    more = {path: lines for path, lines in found.items() if len(lines) > allowed.get(path, 0)}
    assert not more, "begin these docstrings with a verb or a noun of the field"


def test_exceptions_only_shrink(found: dict[str, list[str]]) -> None:
    allowed = tomllib.loads(EXCEPTIONS.read_text())
    now = {path: len(found.get(path, [])) for path in allowed}
    stale = {path: number for path, number in now.items() if number < allowed[path]}
    assert not stale, f"{EXCEPTIONS.name} allows more than there are: write these numbers"


@pytest.mark.parametrize(
    ("docstring", "is_riddle"),
    [
        ("What is tried.", True),
        ("Those of a request.", True),
        ("Whether it works.", True),
        ("How.", True),
        ("Whatever fits.", False),
        ("Settings to try.", False),
        ("The settings that are tried.", False),
    ],
)
def test_riddles(docstring: str, is_riddle: bool) -> None:
    inside = f'class A:\n    def f(self):\n        """{docstring}"""\n'
    for source in (f'"""{docstring}"""\n', inside, inside.replace("def", "async def")):
        assert list(riddles(source)) == ([docstring] if is_riddle else [])
