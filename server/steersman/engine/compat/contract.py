"""The contract with vLLM: each name of its inside that Steersman relies on, and how to look for it.

vLLM promises nothing about these names. They are listed in `names_of_engine` and `names_of_server`;
`complaints` looks for each in the installed vLLM, and starts no engine.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

Version = tuple[int, int]


class Use(StrEnum):
    """Ways in which a name is relied on."""

    WRAPPED = "wrapped"
    """A function of ours takes its place, and calls it."""
    CALLED = "called"
    READ = "read"
    INHERITED = "inherited"
    """Wrapped in a base class, so the class must not have one of its own."""
    ADDED = "added"
    """Ours, on an object of vLLM's: vLLM must not have it."""
    VARIABLE = "environment variable"
    ARGUMENT = "argument of vllm serve"
    OPERATOR = "compiled operator on CPUs"


@dataclass(frozen=True, slots=True)
class Name:
    """A name of vLLM's.

    Attributes:
        path: `module:name`, or `module:class.name` for a method, a field, or an attribute that the
            class gives its objects. `module:*.name` is an attribute of any object, that the module
            speaks of. Variables, arguments and operators have no module.
        use: How it is relied on.
        leading: Parameters that it must begin with, self left out: they are passed by position.
        keywords: Further parameters that are passed, by name.
        exact: Whether it must have no other parameters: vLLM would pass them to us.
        since: The first supported version that has it.
        until: The last one; None for one that is still there.
        runner: The model runner whose it is; None for all, or neither.

    """

    path: str
    use: Use = Use.READ
    leading: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    exact: bool = False
    since: Version = (0, 26)
    until: Version | None = None
    runner: str | None = None

    @property
    def last(self) -> str:
        """The name alone, without its owner."""
        return self.path.rpartition(":")[2].rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.path} ({self.use}{f', {self.runner} runner' if self.runner else ''})"

    def of(self, version: Version | None) -> bool:
        """Tell whether a version should have it; one that is unknown is taken for the newest."""
        if version is None:
            return self.until is None
        return self.since <= version and (self.until is None or version <= self.until)


def of(owner: str, listed: str, use: Use = Use.READ, **facts: Any) -> tuple[Name, ...]:
    """Several names of one owner.

    Args:
        owner: Beginning of their paths, the last `:` or `.` included.
        listed: The names, with spaces between them.
        use: How they are relied on.
        facts: Other facts that they have in common.

    """
    return tuple(Name(owner + name, use, **facts) for name in listed.split())


def complaints(names: Iterable[Name], version: Version | None) -> Iterator[str]:
    """The reasons why an installed vLLM does not keep the contract.

    One line for each name, or for a module that cannot be had, all its names together.

    Args:
        names: The contract.
        version: vLLM's, by its first two numbers; None if it is of no release.

    """
    without: dict[str, list[Name]] = {}
    for name in names:
        if not name.of(version):
            continue
        try:
            if problem := _PROBLEMS.get(name.use, _problem)(name):
                yield f"{name}: {problem}"
        except ImportError as error:
            without.setdefault(str(error), []).append(name)
    for reason, lost in without.items():
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield f"{reason}: without {lost[0]}{more}"


_NOWHERE = object()
_SOMEWHERE = object()
"""An attribute that objects have, and their class has not."""


def _problem(name: Name) -> str | None:
    """The reason why a name is not as it should be; None if it is.

    Raises:
        ImportError: Its module cannot be had.

    """
    found = _find(name.path)
    if found is _NOWHERE:
        return None if name.use is Use.ADDED else "is not there"
    if name.use is Use.ADDED:
        return None if _is_ours(found) else "vLLM has one of its own"
    if name.use is Use.INHERITED:
        owner, _, attribute = name.path.rpartition(".")
        return "has one of its own" if attribute in vars(_find(owner)) else None
    if name.leading or name.keywords or name.exact or name.use is Use.CALLED:
        return _signature_problem(name, found)
    return None


def _find(path: str) -> Any:
    """The object of a path, or `_SOMEWHERE`, or `_NOWHERE`.

    Raises:
        ImportError: Its module cannot be had.

    """
    module_name, _, attributes = path.partition(":")
    owner_name, _, last = attributes.rpartition(".")
    if owner_name == "*":
        return _SOMEWHERE if last in _spoken_of(module_name) else _NOWHERE
    owner: Any = _module(module_name)
    if owner_name:
        owner = getattr(owner, owner_name, _NOWHERE)
    if isinstance(owner, type):
        static = inspect.getattr_static(owner, last, _NOWHERE)
        if isinstance(static, property):
            return _SOMEWHERE
        if static is not _NOWHERE:
            return getattr(owner, last, _SOMEWHERE)
        return _SOMEWHERE if _gives(owner, last) else _NOWHERE
    return getattr(owner, last, _NOWHERE)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module may do anything when it is imported
        reason = " ".join(str(error).split())
        raise ImportError(f"{name} cannot be imported: {reason}") from error


def _is_ours(found: Any) -> bool:
    """Tell whether a function is here because our hooks are installed in this process."""
    return str(getattr(found, "__module__", "")).startswith("steersman.")


def _gives(cls: type, name: str) -> bool:
    """Tell whether objects of a class have an attribute, by its fields or what it assigns."""
    return any(
        name in vars(base).get("__annotations__", ()) or name in _assigned(base)
        for base in cls.__mro__
        if base.__module__.startswith("vllm.")
    )


@cache
def _assigned(cls: type) -> frozenset[str]:
    """Attributes that the methods of a class assign to `self`."""
    nodes = _nodes(cls.__module__)
    own = [one for one in nodes if isinstance(one, ast.ClassDef) and one.name == cls.__name__]
    return frozenset(
        node.attr
        for one in own
        for node in ast.walk(one)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


@cache
def _spoken_of(module: str) -> frozenset[str]:
    """Attributes of any objects that a module names, in texts too."""
    nodes = _nodes(module)
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return frozenset(attributes | {text for text in texts if isinstance(text, str)})


@cache
def _nodes(module: str) -> list[ast.AST]:
    """The syntax of a module of vLLM's, which is not imported for it."""
    import vllm

    package, *parts = module.split(".")
    file = Path(vllm.__path__[0]).joinpath(*parts)
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    if package != "vllm" or not file.is_file():
        raise ImportError(f"there is no module {module}")
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def _signature_problem(name: Name, function: Any) -> str | None:
    if function is _SOMEWHERE:
        return "is no function"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        return f"has no signature: {error}"
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "self":
        del parameters[0]
    positional = [
        one.name
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    known = {one.name for one in parameters}
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters)
    given = {*name.leading, *name.keywords}
    required = {
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    if tuple(positional[: len(name.leading)]) != name.leading:
        wrong = f"should begin with ({', '.join(name.leading)})"
    elif missing := [one for one in name.keywords if one not in known and not anything]:
        wrong = f"has no {', '.join(missing)}"
    elif name.exact and (more := [one for one in known if one not in given]):
        wrong = f"has {', '.join(sorted(more))} too"
    elif name.use is Use.CALLED and required - given:
        wrong = f"needs {', '.join(sorted(required - given))} too"
    else:
        return None
    return f"its parameters are {signature}: it {wrong}"


def _variable_problem(name: Name) -> str | None:
    import vllm.envs

    return None if name.path in vllm.envs.environment_variables else "vLLM does not read it"


def _argument_problem(name: Name) -> str | None:
    return None if name.path in _arguments() else "vLLM has no such argument"


@cache
def _arguments() -> frozenset[str]:
    make_arg_parser = _module("vllm.entrypoints.launchers.cli_args").make_arg_parser
    parser = make_arg_parser(_module("vllm.utils.argparse_utils").FlexibleArgumentParser())
    return frozenset(action.dest for action in parser._actions)


def _operator_problem(name: Name) -> str | None:
    import torch
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or hasattr(torch.ops._C, name.path):
        return None
    return "is not there"


_PROBLEMS: dict[Use, Callable[[Name], str | None]] = {
    Use.VARIABLE: _variable_problem,
    Use.ARGUMENT: _argument_problem,
    Use.OPERATOR: _operator_problem,
}
