"""Hooks found in the source: what a module does with objects that are not its own."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import steersman

SERVER = Path(steersman.__file__).parent
COMPAT = SERVER / "engine/compat"
TABLE = {"contract.py", "names.py", "names_of_engine.py", "names_of_server.py", "__main__.py"}


def hooking() -> list[Path]:
    """Modules of compat that touch vLLM: all but the table."""
    return [path for path in sorted(COMPAT.glob("*.py")) if path.name not in TABLE]


def elsewhere() -> list[Path]:
    """Modules of the server outside compat."""
    return [path for path in sorted(SERVER.rglob("*.py")) if not path.is_relative_to(COMPAT)]


def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The names of vLLM that a module imports, each with where from."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vllm":
            yield from ((node.module or "", alias.name) for alias in node.names)


def replaced(path: Path) -> Iterator[str]:
    """Attributes that a module assigns on other objects than self."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _foreign(node):
            yield node.attr
        if isinstance(node, ast.FunctionDef):
            yield from _set(node, path)


def replaced_by_functions(path: Path) -> Iterator[str]:
    """Attributes of other objects than self that a module puts a function of its own into."""
    for outer in nodes(path):
        if not isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        own = {
            node.name
            for node in ast.walk(outer)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for node in _assigned(outer):
            is_own = isinstance(node.value, ast.Name) and node.value.id in own
            if not is_own and not isinstance(node.value, ast.Lambda):
                continue
            for target in node.targets:
                if isinstance(target, ast.Attribute) and _foreign(target):
                    yield target.attr


def _set(function: ast.FunctionDef, path: Path) -> Iterator[str]:
    """Names that a function gives to `setattr`; one that it cannot be told for is its source."""
    for node in _calls(ast.walk(function), "setattr"):
        if not _is_self(node.args[0]):
            yield from _texts(node.args[1], function, path)


def _calls(among: Iterable[ast.AST], *names: str) -> Iterator[ast.Call]:
    for node in among:
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if is_call and node.func.id in names:
            yield node


def _texts(given: ast.expr, function: ast.FunctionDef, path: Path) -> list[str]:
    if isinstance(given, ast.Constant):
        return [str(given.value)]
    if isinstance(given, ast.Attribute) and given.attr == "__name__":
        # That of what was there before: `before = module.name`.
        sources = {ast.unparse(one.targets[0]): one.value for one in _assigned(function)}
        before = sources.get(ast.unparse(given.value))
        return [before.attr] if isinstance(before, ast.Attribute) else [ast.unparse(given)]
    for node in ast.walk(function):
        is_loop = isinstance(node, ast.For) and ast.unparse(node.target) == ast.unparse(given)
        if is_loop and isinstance(node.iter, ast.Tuple):
            return [str(one.value) for one in node.iter.elts if isinstance(one, ast.Constant)]
    constants = {
        ast.unparse(one.targets[0]): one.value.value
        for module in (path, *hooking())
        for one in ast.parse(module.read_text()).body
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)
    }
    return [str(constants.get(ast.unparse(given), ast.unparse(given)))]


def _assigned(tree: ast.AST) -> list[ast.Assign]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]


def private(path: Path) -> Iterator[str]:
    """Attributes with an underscore of other objects than self."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and _foreign(node):
            yield node.attr


def asked(path: Path) -> Iterator[str]:
    """Names that are looked for with `getattr` and `hasattr`."""
    for node in _calls(nodes(path), "getattr", "hasattr"):
        if isinstance(node.args[1], ast.Constant):
            yield str(node.args[1].value)


def read(path: Path) -> Iterator[str]:
    """Attributes of parameters that are typed `Any`, or as something of vLLM's."""
    theirs = {"Any"} | {name for _, name in imports(path)}
    for function in nodes(path):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        objects = {
            argument.arg
            for argument in (*function.args.args, *function.args.kwonlyargs)
            if argument.annotation is not None and ast.unparse(argument.annotation) in theirs
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and _root(node) in objects:
                yield node.attr


def _foreign(node: ast.Attribute) -> bool:
    """Tell whether it is of another object; a name that Python itself gives a meaning is not."""
    return not _is_self(node.value) and not (
        node.attr.startswith("__") and node.attr != "__class__"
    )


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
