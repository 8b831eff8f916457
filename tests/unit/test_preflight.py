"""Whatever a machine lacks is said in one line, before anything is installed."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steersman import preflight
from steersman.cli import app

GIB = 1024**3
SCRIPT = Path(preflight.__file__)


def test_old_pythons_can_parse_the_script() -> None:
    """An old Python must get as far as the line that refuses it."""
    parsed = ast.parse(SCRIPT.read_text(), feature_version=(3, 7))
    assert "python_problem" in {getattr(part, "name", None) for part in parsed.body}


def test_nothing_but_the_standard_library_is_imported() -> None:
    imported = {
        (alias.name if isinstance(node, ast.Import) else str(node.module)).partition(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 13, 9)])
def test_supported_pythons_are_accepted(version: tuple[int, ...]) -> None:
    assert preflight.python_problem(version, "Linux", "x86_64") is None


@pytest.mark.parametrize("version", [(3, 8, 10), (3, 10, 1), (3, 14, 0)])
def test_other_pythons_are_refused_by_version(version: tuple[int, ...]) -> None:
    problem = preflight.python_problem(version, "Linux", "x86_64")
    assert problem
    assert f"3.11 to 3.13 is needed, this is {'.'.join(map(str, version))}" in problem


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_platforms_without_a_lock_are_refused(system: str, machine: str) -> None:
    problem = preflight.python_problem((3, 11, 7), system, machine)
    assert problem
    assert f"this is {system} on {machine}" in problem


def machine_with(directory: Path, *programs: str) -> dict[str, str]:
    """An environment whose PATH has these programs and no others."""
    for program in programs:
        file = directory / program
        file.touch()
        file.chmod(0o755)
    return {"PATH": str(directory)}


@pytest.mark.parametrize(
    ("device", "there", "package"), [("cpu", "gcc", "g++"), ("cuda", "g++", "gcc")]
)
def test_a_missing_compiler_names_its_package(
    tmp_path: Path, device: str, there: str, package: str
) -> None:
    problem = preflight.compiler_problem(device, machine_with(tmp_path, there), tmp_path)
    assert problem
    assert f"apt-get install {package}," in problem


def test_missing_headers_name_their_package(tmp_path: Path) -> None:
    problem = preflight.compiler_problem("cpu", machine_with(tmp_path, "g++"), tmp_path)
    assert problem
    assert "apt-get install python3-dev" in problem


def test_a_compiler_named_by_the_environment_is_enough(tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    environment = machine_with(tmp_path, "clang++") | {"CXX": "clang++ -v"}
    assert preflight.compiler_problem("cpu", environment, tmp_path) is None


def test_a_missing_library_names_its_package() -> None:
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    problem = preflight.library_problem("cpu", load)
    assert problem
    assert "apt-get install libnuma1" in problem
    assert preflight.library_problem("cuda", load) is None


def test_too_little_disk_says_how_much() -> None:
    problem = preflight.disk_problem("cpu", 2 * GIB, 0)
    assert problem
    assert "about 5.0 GiB more, 2.0 GiB are free" in problem


def test_what_is_installed_counts_towards_the_disk() -> None:
    assert preflight.disk_problem("cpu", 2 * GIB, 4 * GIB) is None


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    assert preflight.venv_problem(tmp_path, (3, 11, 7)) is None
    assert preflight.venv_problem(tmp_path / "new", (3, 11, 7)) is None
    (tmp_path / "thesis.txt").write_text("precious")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        problem = preflight.venv_problem(path, (3, 11, 7))
        assert problem
        assert "is not a virtual environment" in problem


def test_an_environment_of_another_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    assert preflight.venv_problem(tmp_path, (3, 9, 2)) is None
    problem = preflight.venv_problem(tmp_path, (3, 11, 7))
    assert problem
    assert "made by Python 3.9.2, not 3.11.7" in problem


def asked(printed: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, printed)

    return run


def test_a_failure_without_a_network_says_so(tmp_path: Path) -> None:
    """pip itself, with an index at a port where nobody listens."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *command[1:], "--index-url", "http://127.0.0.1:9/simple"]
        return subprocess.run(command, **options, check=False)

    assert "no connection to the package registry" in preflight.failure(tmp_path, run)
    assert "the lines above" in preflight.failure(tmp_path, asked("pip (26.2.1)"))


def test_a_failure_before_there_is_a_python(tmp_path: Path) -> None:
    assert "could not be made" in preflight.failure(tmp_path / "none", subprocess.run)


def test_the_first_problem_is_the_only_line(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    command = [sys.executable, "-I", str(SCRIPT), str(tmp_path), "cpu", "--install"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(f"set-up: {tmp_path} exists")


def test_the_doctor_names_everything_it_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = CliRunner().invoke(app, ["doctor"])
    assert healthy.exit_code == 0
    assert healthy.output.splitlines() == [
        "Python: ok",
        "compiler: ok",
        "libraries: ok",
        "vLLM: ok",
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    ill = CliRunner().invoke(app, ["doctor"])
    assert ill.exit_code == 1
    assert "compiler: no C" in ill.output
