"""YAML files of an operator: named things (profiles, rewards), and documents of any shape."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z")


def read(path: Path, kind: str, error: type[Exception]) -> dict[str, Any]:
    """Read a mapping from usable names to whatever is under them.

    Args:
        path: The file.
        kind: The kind of thing that it names, for messages.
        error: The error to raise, with a message of one line.

    Raises:
        Exception: An `error`: the file cannot be read, or is not such a mapping.

    """
    data = document(path, error)
    if not isinstance(data, dict):
        raise error(f"{path}: expected a mapping from {kind} names to {kind}s")
    for name in data:
        if not usable(name):
            raise error(
                f"{path}: {kind} name {name!r}: use lower-case letters, digits, '-', '_' and '.'"
            )
    return data


def document(path: Path, error: type[Exception]) -> Any:
    """Read a YAML file of plain types, in which no mapping has a key twice.

    No message quotes the file: it may hold secrets.

    Args:
        path: The file.
        error: The error to raise, with a message of one line.

    Raises:
        Exception: An `error`: the file cannot be read, or is no such YAML.

    """
    try:
        # A subclass of the safe loader, which makes plain types only.
        return yaml.load(path.read_text(encoding="utf-8"), _Strict)
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path}: cannot be read: {fault}") from fault
    except yaml.YAMLError as fault:
        problem = getattr(fault, "problem", None) or type(fault).__name__
        mark = getattr(fault, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise error(f"{path}: not valid YAML: {problem}{where}") from fault


def usable(name: object) -> bool:
    """Tell whether something can be a name."""
    return isinstance(name, str) and _NAME.match(name) is not None


class _Strict(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, "a key stands twice in one mapping", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def first_fault(name: str, error: ValidationError) -> str:
    """The first wrong field of a named thing, and the reason."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (name, *first["loc"]))
    return f"{where}: {first['msg']}"
