"""Options, problem files, progress and output shared by the commands."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from steersman.console import fail
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.spec import ProblemSet, anchored
from steersman.progress import Progress

# Where an option is not named as the argument that an error is about.
_OPTIONS = {
    "long_tokens": "--long",
    "long_percentile": "--long",
    "short_tokens": "--short",
    "short_percentile": "--short",
    "recheck": "--recheck",
    "closing_only": "--closing-only",
    "within_problems": "--within-problems",
    "layers": "--layers",
    "directory": "--directory",
    "strengths": "--strengths",
}


class Thresholds(StrEnum):
    """Thresholds between short and long traces."""

    TOKENS = "tokens"
    PERCENTILES = "percentiles"


def threshold_options(by: Thresholds, long: float | None, short: float | None) -> dict[str, Any]:
    """The options of `thinkedit.contrast`."""
    options: dict[str, Any] = {"by": str(by)}
    for name, value in (("long", long), ("short", short)):
        if value is None:
            continue
        if by is Thresholds.PERCENTILES:
            options[f"{name}_percentile"] = value
        elif value.is_integer():
            options[f"{name}_tokens"] = int(value)
        else:
            fail(f"--{name} {value:g}: must be a whole number of tokens")
    return options


def problem_sets(path: Path) -> tuple[ProblemSet, ...]:
    """The problem sets that a YAML file lists, as in an evaluation run; paths are beside the file.

    Raises:
        EvaluationError: It is no such list, or an empty one.

    """
    try:
        sets = TypeAdapter(tuple[ProblemSet, ...]).validate_python(
            yaml.safe_load(path.read_text(encoding="utf-8"))
        )
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise EvaluationError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise EvaluationError(f"{path}: {where}{first['msg']}") from error
    if not sets:
        raise EvaluationError(f"{path}: no problem sets")
    return tuple(anchored(one, path.parent) for one in sets)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Progress by steps, told of with: step, how much is done, of how much."""
    with Progress() as steps:
        current = ""

        def show(step: str, done: int, total: int) -> None:
            nonlocal current
            if step != current:
                current = step
                steps.step(step, total, done=done)
            steps.update(done)

        yield show


def reason(error: Exception) -> str:
    """Message of an error, with the option it is about where that has another name."""
    option = _OPTIONS.get(getattr(error, "field", None) or "")
    return f"{option}: {error}" if option else str(error)


def write(contents: Mapping[Path, bytes]) -> None:
    """Write files, each of them whole or not at all."""
    partial = {path: path.with_name(f".{path.name}.partial") for path in contents}
    try:
        for path, content in contents.items():
            partial[path].write_bytes(content)
        for path in contents:
            partial[path].replace(path)
    except OSError as error:
        fail(f"--out: {error.filename}: cannot be written: {error.strerror}")
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
