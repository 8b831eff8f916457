"""Checks of a machine, before Steersman is set up on it or run.

Standard library only, and parsed by older Pythons too: `make` runs it by its path, before anything
is installed, so that a missing part is one clear line.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OLDEST, NEWEST = (3, 11), (3, 13)
GIB = 1024**3
NEEDED_DISK = {"cpu": 5 * GIB, "cuda": 16 * GIB}
"""Bytes of a finished environment, and of the wheels and the cache beside it."""
NEARLY_FULL = GIB // 4
"""Free bytes below which a failure is the disk's."""
OFFLINE = (
    "connection broken by|NewConnectionError|Failed to establish a new connection|"
    "Temporary failure in name resolution|ConnectTimeoutError|ProxyError|Network is unreachable"
)
"""Signs in pip's output of a registry that it could not reach."""


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: Of the thing.
        problem: The fault, and a remedy; None if there is none.

    """

    name: str
    problem: Optional[str]  # noqa: UP045 (evaluated, by older Pythons too)


def python_problem(version: tuple[int, ...], system: str, machine: str) -> str | None:
    """A Python or platform that the locked requirements do not cover; None for the others."""
    if not OLDEST <= version[:2] <= NEWEST:
        return (
            f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed, this is "
            f"{'.'.join(map(str, version[:3]))}: name another with PYTHON=python3.12"
        )
    if (system, machine) != ("Linux", "x86_64"):
        return f"Linux on x86_64 is needed, this is {system} on {machine}"
    return None


def compiler_problem(device: str, environment: Mapping[str, str], include: Path) -> str | None:
    """Anything that keeps vLLM from compiling its kernels when it starts.

    On a CPU it compiles C++ by default; on a GPU Triton compiles its launchers with a C compiler.
    Both need the headers of this Python.

    Args:
        device: `cpu` or `cuda`.
        environment: Environment variables: `PATH`, and `CXX` or `CC`.
        include: Directory of the headers.

    """
    variable, names, package = (
        ("CXX", ("g++",), "g++") if device == "cpu" else ("CC", ("gcc", "cc", "clang"), "gcc")
    )
    wanted = [environment[variable]] if environment.get(variable) else list(names)
    path = environment.get("PATH")
    if not any(shutil.which(name.split()[0], path=path) for name in wanted):
        return (
            f"no {'C++' if device == 'cpu' else 'C'} compiler ({' or '.join(wanted)}), "
            f"which vLLM compiles its kernels with: apt-get install {package}, or your "
            "system's equivalent"
        )
    if not (include / "Python.h").is_file():
        return (
            f"no Python headers ({include / 'Python.h'}), which vLLM compiles its kernels against: "
            "apt-get install python3-dev, or your system's equivalent"
        )
    return None


def library_problem(device: str, load: Callable[[str], object]) -> str | None:
    """The absence of the system library that vLLM's CPU engine is linked to."""
    if device != "cpu":
        return None
    try:
        load("libnuma.so.1")
    except OSError:
        return (
            "no libnuma.so.1, which vLLM's CPU engine needs: apt-get install libnuma1, or your "
            "system's equivalent"
        )
    return None


def venv_problem(venv: Path, version: tuple[int, ...]) -> str | None:
    """The reason why a directory cannot be the virtual environment of this Python."""
    try:
        import ensurepip  # noqa: F401 (Debian ships it apart)
        import venv as _  # noqa: F401
    except ImportError:
        return (
            "this Python cannot make virtual environments: apt-get install python3-venv, or your "
            "system's equivalent"
        )
    config = venv / "pyvenv.cfg"
    if not config.is_file():
        if venv.exists() and (not venv.is_dir() or any(venv.iterdir())):
            return f"{venv} exists and is not a virtual environment: name another with VENV="
        return None
    made_with = re.search(r"^version\w* = (\d[\d.]*)", config.read_text(), re.MULTILINE)
    wanted = ".".join(map(str, version[:3]))
    if made_with and made_with[1].rstrip(".") != wanted:
        return (
            f"{venv} was made by Python {made_with[1]}, not {wanted}: remove it, or name another "
            "with VENV="
        )
    return None


def disk_problem(device: str, free: int, used: int) -> str | None:
    """A lack of room on the disk; `used` bytes are in the environment already."""
    needed = NEEDED_DISK[device] - used
    if free >= needed:
        return None
    return (
        f"not enough disk: the set-up for {device} needs about {needed / GIB:.1f} GiB more, "
        f"{free / GIB:.1f} GiB are free"
    )


def machine_checks(device: str) -> Iterator[Check]:
    """Checks of everything that a server on this machine needs beside Python packages.

    Args:
        device: `cpu` or `cuda`.

    """
    yield Check(
        "Python", python_problem(sys.version_info[:3], platform.system(), platform.machine())
    )
    include = Path(sysconfig.get_paths()["include"])
    yield Check("compiler", compiler_problem(device, os.environ, include))
    yield Check("libraries", library_problem(device, ctypes.CDLL))


def setup_checks(device: str, venv: Path, *, install: bool) -> Iterator[Check]:
    """Checks of everything that a set-up needs, the cheapest first.

    Args:
        device: `cpu` or `cuda`.
        venv: Where the environment is or will be.
        install: Whether something is about to be installed.

    """
    yield from machine_checks(device)
    yield Check("environment", venv_problem(venv, sys.version_info[:3]))
    if install:
        yield Check("disk", disk_problem(device, _free(venv), _size(venv)))


def failure(venv: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """The reason why an installation has failed, as far as can be told afterwards, in one line.

    Args:
        venv: The environment, with pip in it.
        run: `subprocess.run`.

    """
    if _free(venv) < NEARLY_FULL:
        return "the disk is full; make room and run it again: it goes on from here"
    # Any package will do to ask for: pip is one that every registry has.
    command = [str(venv / "bin/python"), "-m", "pip", "index", "versions", "pip"]
    command += ["--retries", "1", "--timeout", "10"]  # without a retry pip says nothing
    try:
        asked = run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return f"{venv} could not be made; the lines above say why"
    if re.search(OFFLINE, asked.stdout):
        return "no connection to the package registry; once there is one, it goes on from here"
    return "the lines above say why; the next run goes on from here"


def _free(path: Path) -> int:
    there = path
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _size(directory: Path) -> int:
    return sum(
        os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
        for folder, _, names in os.walk(directory)
        for name in names
    )


def main() -> int:
    """Command line; the exit code is 1 if something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("device", choices=sorted(NEEDED_DISK))
    parser.add_argument("--install", action="store_true", help="look whether there is room too")
    parser.add_argument("--failed", action="store_true", help="say why an installation failed")
    arguments = parser.parse_args()
    venv = arguments.venv.absolute()
    if arguments.failed:
        print(f"set-up: {failure(venv, subprocess.run)}", file=sys.stderr)
        return 1
    for check in setup_checks(arguments.device, venv, install=arguments.install):
        if check.problem:
            print(f"set-up: {check.problem}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
