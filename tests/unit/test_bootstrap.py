"""The decisions of tools/bootstrap.py, none of which needs a network."""

import ast
import importlib.util
import signal
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools/bootstrap.py"
GIB = 1024**3


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that an environment is made from."""
    for name in (
        "tools/bootstrap.py",
        "pyproject.toml",
        "clients/python/pyproject.toml",
        "requirements/cpu.lock",
        "requirements/cuda.lock",
        "requirements/dev.lock",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path


def test_old_pythons_can_parse_the_script() -> None:
    """An old Python must get as far as the line that refuses it."""
    parsed = ast.parse(SCRIPT.read_text(), feature_version=(3, 7))
    assert "check_python" in {getattr(part, "name", None) for part in parsed.body}


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 13, 9)])
def test_supported_pythons_are_accepted(bootstrap: ModuleType, version: tuple[int, ...]) -> None:
    bootstrap.check_python(version, "Linux", "x86_64")


@pytest.mark.parametrize("version", [(3, 8, 10), (3, 10, 1), (3, 14, 0)])
def test_other_pythons_are_refused_by_version(
    bootstrap: ModuleType, version: tuple[int, ...]
) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"3\.11 to 3\.13 is needed, this is 3\.\d+\.\d"):
        bootstrap.check_python(version, "Linux", "x86_64")


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_platforms_without_a_lock_are_refused(
    bootstrap: ModuleType, system: str, machine: str
) -> None:
    with pytest.raises(bootstrap.SetupError, match=f"this is {system} on {machine}"):
        bootstrap.check_python((3, 11, 7), system, machine)


def machine_with(directory: Path, *programs: str) -> dict[str, str]:
    """An environment whose PATH has these programs and no others."""
    for program in programs:
        file = directory / program
        file.touch()
        file.chmod(0o755)
    return {"PATH": str(directory)}


@pytest.mark.parametrize(
    ("device", "there", "package"), [("cpu", "gcc", r"g\+\+"), ("cuda", "g++", "gcc")]
)
def test_a_missing_compiler_names_its_package(
    bootstrap: ModuleType, tmp_path: Path, device: str, there: str, package: str
) -> None:
    with pytest.raises(bootstrap.SetupError, match=f"apt-get install {package},"):
        bootstrap.check_compiler(device, machine_with(tmp_path, there), tmp_path)


def test_missing_headers_name_their_package(bootstrap: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bootstrap.SetupError, match="apt-get install python3-dev"):
        bootstrap.check_compiler("cpu", machine_with(tmp_path, "g++"), tmp_path)


def test_a_compiler_named_by_the_environment_is_enough(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "Python.h").touch()
    environment = machine_with(tmp_path, "clang++") | {"CXX": "clang++ -v"}
    bootstrap.check_compiler("cpu", environment, tmp_path)


def test_a_missing_library_names_its_package(bootstrap: ModuleType) -> None:
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(bootstrap.SetupError, match="apt-get install libnuma1"):
        bootstrap.check_libraries("cpu", load)
    bootstrap.check_libraries("cuda", load)


def test_too_little_disk_says_how_much(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"about 6\.0 GiB more, 2\.0 GiB are free"):
        bootstrap.check_disk("cpu", 2 * GIB, 0)


def test_what_is_installed_counts_towards_the_disk(bootstrap: ModuleType) -> None:
    bootstrap.check_disk("cpu", 2 * GIB, 4 * GIB)


@pytest.mark.parametrize(
    ("wanted", "previous", "has_gpu", "expected"),
    [
        ("auto", None, False, "cpu"),
        ("auto", None, True, "cuda"),
        ("cpu", None, True, "cpu"),
        ("auto", "cpu", True, "cpu"),
        ("cuda", "cpu", False, "cuda"),
    ],
)
def test_device(
    bootstrap: ModuleType, wanted: str, previous: str | None, has_gpu: bool, expected: str
) -> None:
    stamp = bootstrap.Stamp(previous, "3.11.7") if previous else None
    assert bootstrap.choose_device(wanted, stamp, has_gpu) == expected


def test_an_environment_is_current_until_a_file_changes(bootstrap: ModuleType, tree: Path) -> None:
    wanted = bootstrap.wanted_stamp(tree, "cpu", dev=False)
    assert bootstrap.is_current(wanted, wanted)
    (tree / "requirements/cpu.lock").write_text("changed")
    assert not bootstrap.is_current(wanted, bootstrap.wanted_stamp(tree, "cpu", dev=False))


def test_the_other_devices_lock_does_not_matter(bootstrap: ModuleType, tree: Path) -> None:
    stamp = bootstrap.wanted_stamp(tree, "cpu", dev=False)
    (tree / "requirements/cuda.lock").write_text("changed")
    assert bootstrap.is_current(stamp, bootstrap.wanted_stamp(tree, "cpu", dev=False))
    assert not bootstrap.is_current(stamp, bootstrap.wanted_stamp(tree, "cuda", dev=False))


def test_tools_are_installed_when_asked_for_and_kept_when_not(
    bootstrap: ModuleType, tree: Path
) -> None:
    plain = bootstrap.wanted_stamp(tree, "cpu", dev=False)
    dev = bootstrap.wanted_stamp(tree, "cpu", dev=True)
    assert not bootstrap.is_current(plain, dev)
    assert bootstrap.is_current(dev, plain)


def test_an_interrupted_environment_is_not_current(bootstrap: ModuleType, tree: Path) -> None:
    wanted = bootstrap.wanted_stamp(tree, "cpu", dev=False)
    assert not bootstrap.is_current(bootstrap.Stamp("cpu", wanted.python), wanted)
    assert not bootstrap.is_current(None, wanted)


def test_a_stamp_is_read_back(bootstrap: ModuleType, tree: Path) -> None:
    stamp = bootstrap.wanted_stamp(tree, "cpu", dev=True)
    bootstrap.write_stamp(tree, stamp)
    assert bootstrap.read_stamp(tree) == stamp


@pytest.mark.parametrize("content", [None, "", "[]", '{"device": "cpu"}', '{"other": 1}'])
def test_an_unreadable_stamp_is_none(
    bootstrap: ModuleType, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / bootstrap.STAMP).write_text(content)
    assert bootstrap.read_stamp(tmp_path) is None


def test_a_directory_of_something_else_is_left_alone(bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(bootstrap.SetupError, match="is not a virtual environment"):
        bootstrap.make_venv(tmp_path, None, bootstrap.Stamp("cpu", "3.11.7"))
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_environment_of_another_python_is_left_alone(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip").touch()
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    with pytest.raises(bootstrap.SetupError, match=r"made by Python 3\.9\.2, not 3\.11\.7"):
        bootstrap.make_venv(tmp_path, None, bootstrap.Stamp("cpu", "3.11.7"))


OFFLINE = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError: Failed to establish a new connection: [Errno -3] \
Temporary failure in name resolution': /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from versions: )
ERROR: No matching distribution found for torch==2.13.0+cpu
"""
ABSENT = """\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from versions: 2)
ERROR: No matching distribution found for torch==2.13.0+cpu
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (OFFLINE, "no connection to the package registry while installing X"),
        (ABSENT, "the configured package registries have no torch==2.13.0+cpu, needed by X"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "a download does not match its digest in X",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] "
            "No space left on device",
            "the disk filled up while installing X",
        ),
        ("noise\nERROR: first\nERROR: last", "pip could not install X: last"),
        ("noise", "pip could not install X: it gave no reason"),
    ],
)
def test_pip_failures_become_one_line(bootstrap: ModuleType, output: str, expected: str) -> None:
    assert bootstrap.explain(output, "X") == expected


def test_only_a_registry_that_answered_can_lack_torch(bootstrap: ModuleType) -> None:
    assert bootstrap.lacks_torch(ABSENT)
    assert not bootstrap.lacks_torch(OFFLINE)


@pytest.mark.parametrize("live", [True, False])
def test_pip_lines_come_clean_from_pipes_and_terminals(bootstrap: ModuleType, live: bool) -> None:
    script = r"printf 'Collecting a\n\033[2K━━ 1/2\r━━━ 2/2\r\nend\n'; exit 0"
    lines = list(bootstrap.pip_lines(["sh", "-c", script], live))
    assert lines == ["Collecting a", "━━ 1/2", "━━━ 2/2", "end"]


def test_a_failing_pip_is_noticed(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.subprocess.CalledProcessError):
        list(bootstrap.pip_lines(["sh", "-c", "echo no; exit 3"], False))


def test_an_abandoned_pip_can_clean_up(bootstrap: ModuleType, tmp_path: Path) -> None:
    """It is interrupted, not killed, when its reader goes away."""
    # As in `main`: a test run in the background has interrupts ignored, and so would the shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mark = tmp_path / "cleaned"
    script = f"trap 'touch {mark}; exit 1' INT; echo started; while :; do sleep 0.05; done"
    lines = bootstrap.pip_lines(["sh", "-c", script], False)
    assert next(lines) == "started"
    lines.close()
    assert mark.exists()
