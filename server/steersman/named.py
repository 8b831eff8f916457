"""YAML files of named things: profiles, rewards."""

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
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path}: cannot be read: {fault}") from fault
    except yaml.YAMLError as fault:
        problem = " ".join(str(fault).split())
        raise error(f"{path}: not valid YAML: {problem}") from fault
    if not isinstance(data, dict):
        raise error(f"{path}: expected a mapping from {kind} names to {kind}s")
    for name in data:
        if not isinstance(name, str) or not _NAME.match(name):
            raise error(
                f"{path}: {kind} name {name!r}: use lower-case letters, digits, '-', '_' and '.'"
            )
    return data


def first_fault(name: str, error: ValidationError) -> str:
    """The first wrong field of a named thing, and the reason."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (name, *first["loc"]))
    return f"{where}: {first['msg']}"
