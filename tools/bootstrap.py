#!/usr/bin/env python3
"""Set up the environment that Steersman runs in: vLLM, its locked requirements, Steersman itself.

Standard library only, and parsed by older Pythons too, so that every refusal can be one clear line.
The set-up is resumable: a stamp in the environment, completed last, says what it was made from.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import platform
import pty
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 13)
TORCH_CPU = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
GIB = 1024**3
# A finished environment, plus the wheels and the cache that pip holds meanwhile.
NEEDED_DISK = {"cpu": 6 * GIB, "cuda": 16 * GIB}
STAMP = "steersman-setup.json"
PACKAGE_LINE = re.compile(r"(?:Collecting|Processing|Requirement already satisfied:) (\S+)")


class SetupError(Exception):
    """Why the set-up cannot go on, in one line."""


class Stamp(NamedTuple):
    """What an environment was made from; the digests are None until its set-up is complete."""

    device: str
    python: str
    digest: str | None = None
    dev_digest: str | None = None


# -- Decisions ------------------------------------------------------------------------------------


def check_python(version: tuple[int, ...], system: str, machine: str) -> None:
    """Refuse interpreters and platforms that the locks do not cover."""
    if not OLDEST <= version[:2] <= NEWEST:
        raise SetupError(
            f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed, this is "
            f"{'.'.join(map(str, version[:3]))}: name another with PYTHON=python3.12"
        )
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError(f"Linux on x86_64 is needed, this is {system} on {machine}")


def check_compiler(device: str, environment: Mapping[str, str], include: Path) -> None:
    """Refuse a machine on which vLLM could not compile its kernels at start.

    On a CPU vLLM compiles C++ by default; on a GPU Triton compiles its launchers with a C compiler.
    Both need the headers of this Python.
    """
    variable, names, package = (
        ("CXX", ("g++",), "g++") if device == "cpu" else ("CC", ("gcc", "cc", "clang"), "gcc")
    )
    wanted = [environment[variable]] if environment.get(variable) else list(names)
    path = environment.get("PATH")
    if not any(shutil.which(name.split()[0], path=path) for name in wanted):
        raise SetupError(
            f"no {'C++' if device == 'cpu' else 'C'} compiler ({' or '.join(wanted)}), "
            f"which vLLM compiles its kernels with: apt-get install {package}, or your "
            "system's equivalent"
        )
    if not (include / "Python.h").is_file():
        raise SetupError(
            f"no Python headers ({include / 'Python.h'}), which vLLM compiles its kernels against: "
            "apt-get install python3-dev, or your system's equivalent"
        )


def check_libraries(device: str, load: Callable[[str], object]) -> None:
    """Refuse a machine without the system library that vLLM's CPU engine is linked to."""
    if device != "cpu":
        return
    try:
        load("libnuma.so.1")
    except OSError:
        raise SetupError(
            "no libnuma.so.1, which vLLM's CPU engine needs: apt-get install libnuma1, or your "
            "system's equivalent"
        ) from None


def check_disk(device: str, free: int, used: int) -> None:
    """Refuse to start what would fill the disk; `used` bytes are in the environment already."""
    needed = NEEDED_DISK[device] - used
    if free < needed:
        raise SetupError(
            f"not enough disk: the set-up for {device} needs about {needed / GIB:.1f} GiB more, "
            f"{free / GIB:.1f} GiB are free"
        )


def choose_device(wanted: str, previous: Stamp | None, has_gpu: bool) -> str:
    """The device to set up for: as asked, else as the environment has it, else what is there."""
    if wanted != "auto":
        return wanted
    if previous:
        return previous.device
    return "cuda" if has_gpu else "cpu"


def digest_of(files: Sequence[Path]) -> str:
    """One SHA-256 over the names and the contents of files."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def wanted_stamp(root: Path, device: str, dev: bool) -> Stamp:
    """The stamp that a complete environment for this tree would have."""
    files = [
        root / "tools/bootstrap.py",
        root / "pyproject.toml",
        root / "clients/python/pyproject.toml",
        root / f"requirements/{device}.lock",
    ]
    return Stamp(
        device,
        platform.python_version(),
        digest_of(files),
        digest_of([root / "requirements/dev.lock"]) if dev else None,
    )


def is_current(stamp: Stamp | None, wanted: Stamp) -> bool:
    """Whether the environment is what is wanted; one that has the tools too will do without."""
    if stamp is None:
        return False
    return stamp == (wanted if wanted.dev_digest else wanted._replace(dev_digest=stamp.dev_digest))


def explain(output: str, subject: str) -> str:
    """One line that says why pip failed, from what it printed."""
    known = (
        ("No space left on device", f"the disk filled up while installing {subject}"),
        ("DO NOT MATCH THE HASHES", f"a download does not match its digest in {subject}"),
        ("Read-only file system", f"cannot write: the file system is read-only ({subject})"),
    )
    for sign, line in known:
        if sign in output:
            return line
    if is_offline(output):
        return f"no connection to the package registry while installing {subject}"
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return f"the configured package registries have no {missing[1]}, needed by {subject}"
    errors = re.findall(r"^ERROR: (.*)$", output, re.MULTILINE)
    return f"pip could not install {subject}: {errors[-1] if errors else 'it gave no reason'}"


def is_offline(output: str) -> bool:
    """Whether pip's output tells of a registry that it could not reach."""
    signs = (
        r"connection broken by|NewConnectionError|Failed to establish a new connection|"
        r"Temporary failure in name resolution|ConnectTimeoutError|ProxyError|"
        r"Network is unreachable"
    )
    return re.search(signs, output) is not None


def lacks_torch(output: str) -> bool:
    """Whether pip failed because its registries, though reached, carry no CPU build of torch."""
    return "No matching distribution found for torch" in output and not is_offline(output)


# -- The environment ------------------------------------------------------------------------------


def read_stamp(venv: Path) -> Stamp | None:
    """The stamp of an environment, or None if it has none that can be read."""
    try:
        return Stamp(**json.loads((venv / STAMP).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def write_stamp(venv: Path, stamp: Stamp) -> None:
    """Put the stamp in place in one step."""
    fresh = venv / f"{STAMP}.new"
    fresh.write_text(json.dumps(stamp._asdict()))
    fresh.replace(venv / STAMP)


def has_gpu() -> bool:
    """Whether the NVIDIA driver sees a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU " in listed.stdout


def make_venv(venv: Path, stamp: Stamp | None, wanted: Stamp) -> None:
    """Make the virtual environment, or keep one that the set-up can go on in."""
    if venv.exists() and not (venv / "pyvenv.cfg").is_file() and any(venv.iterdir()):
        raise SetupError(f"{venv} exists and is not a virtual environment: name another with VENV=")
    stale = stamp is not None and (stamp.device, stamp.python) != (wanted.device, wanted.python)
    if stamp is None and (venv / "bin/pip").exists():
        made_with = re.search(r"^version\w* = (\d[\d.]*)", (venv / "pyvenv.cfg").read_text(), re.M)
        if made_with and made_with[1].rstrip(".") != wanted.python:
            raise SetupError(
                f"{venv} was made by Python {made_with[1]}, not {wanted.python}: remove it, or "
                "name another with VENV="
            )
    if stale or not (venv / "bin/pip").exists():
        command = [sys.executable, "-m", "venv", *(["--clear"] if stale else []), str(venv)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            output = made.stdout + made.stderr
            if "ensurepip" in output or "No module named venv" in output:
                raise SetupError(
                    "this Python cannot make virtual environments: apt-get install python3-venv, "
                    "or your system's equivalent"
                )
            raise SetupError(f"cannot make {venv}: {(output.splitlines() or ['no reason'])[-1]}")
    write_stamp(venv, Stamp(wanted.device, wanted.python))


def disk_use(directory: Path) -> int:
    """Bytes of the files under a directory."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
        for folder, _, names in os.walk(directory)
        for name in names
    )


# -- Running pip ----------------------------------------------------------------------------------


class Steps:
    """Numbered progress lines; the current one is redrawn in place on a terminal."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.title = ""
        self.started = time.monotonic()
        self.live = sys.stdout.isatty()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show one step from its start to its end."""
        self.number, self.title = self.number + 1, title
        started = time.monotonic()
        if self.live:
            self.show("")
        else:
            print(self.heading, end="", flush=True)
        try:
            yield
        except BaseException:
            print(flush=True)
            raise
        end = f"{time.monotonic() - started:.0f} s"
        if self.live:
            self.show(end)
            print(flush=True)
        else:
            print(f"  {end}", flush=True)

    @property
    def heading(self) -> str:
        """Number and title of the current step."""
        return f"[{self.number}/{self.total}] {self.title}"

    def show(self, detail: str) -> None:
        """Redraw the current line of a terminal with what is happening now."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{f'{self.heading}  {detail}'[:width]}", end="", flush=True)


def pip_lines(command: Sequence[str], live: bool) -> Iterator[str]:
    """Run pip and yield its lines, those of its progress bar included if it is to draw one.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    reader, writer = pty.openpty() if live else os.pipe()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that an interrupt reaches it once, from here
    )
    os.close(writer)
    try:
        pending = ""
        with os.fdopen(reader, "rb", buffering=0) as stream:
            while True:
                try:
                    chunk = stream.read(65536)
                except OSError:  # how a pseudo-terminal says that its last writer is gone
                    break
                if not chunk:
                    break
                *lines, pending = re.split(r"[\r\n]+", pending + chunk.decode(errors="replace"))
                for line in lines:
                    yield re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip()
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process that still runs, so that pip can remove its temporary files."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        finally:
            process.kill()
            process.wait()


def pip_install(venv: Path, steps: Steps, arguments: Sequence[str], count: int = 1) -> str:
    """Install with the pip of the environment; returns what it printed if it failed, else ''."""
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--no-deps", "--no-input"]
    command += ["--no-compile", "--disable-pip-version-check", *arguments]
    printed: list[str] = []
    seen, name = 0, ""
    try:
        for line in pip_lines(command, steps.live):
            if "━" in line:
                amounts = line.lstrip("━╸╺ ")  # how much, how fast, how long still
                steps.show(f"{name}  {amounts}")
                continue
            printed.append(line)
            found = PACKAGE_LINE.match(line)
            if found:
                seen += 1
                name = f"{seen}/{count} {Path(found[1]).name}" if count > 1 else ""
                steps.show(name)
            elif line.startswith("Installing collected packages"):
                steps.show("unpacking")
    except subprocess.CalledProcessError:
        return "\n".join(printed) or "pip printed nothing"
    return ""


def compile_all(venv: Path) -> None:
    """Byte-compile what was installed on all cores; pip would use one.

    The status is not looked at: some packages carry files for Pythons newer than this one.
    """
    command = [str(venv / "bin/python"), "-m", "compileall", "-qq", "-j", "0", str(venv / "lib")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def install(venv: Path, wanted: Stamp) -> None:
    """Bring an environment to the wanted state, step by numbered step."""
    locks = [f"requirements/{wanted.device}.lock"]
    locks += ["requirements/dev.lock"] if wanted.dev_digest else []
    on_cpu = wanted.device == "cpu"
    steps = Steps(len(locks) + (3 if on_cpu else 2))
    if on_cpu:
        with steps.step(TORCH_CPU):
            output = pip_install(venv, steps, [TORCH_CPU])
            if output and lacks_torch(output):
                steps.show("from PyTorch's own index")
                output = pip_install(venv, steps, [TORCH_CPU, "--index-url", TORCH_CPU_INDEX])
            if output:
                raise SetupError(explain(output, TORCH_CPU))
    for lock in locks:
        count = len(re.findall(r"^[\w.-]+==", (ROOT / lock).read_text(), re.MULTILINE))
        with steps.step(lock):
            output = pip_install(venv, steps, ["--require-hashes", "-r", str(ROOT / lock)], count)
            if output:
                raise SetupError(explain(output, lock))
    with steps.step("steersman and steersman-client, editable"):
        projects = ["-e", str(ROOT / "clients/python"), "-e", str(ROOT)]
        output = pip_install(venv, steps, ["--no-build-isolation", *projects])
        if output:
            raise SetupError(explain(output, "steersman"))
    with steps.step("byte-compiling"):
        compile_all(venv)
    print(f"ready in {time.monotonic() - steps.started:.0f} s", flush=True)


def take_turn(descriptor: int) -> None:
    """Wait until no other set-up is running; the system frees the lock with the descriptor."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another set-up to end", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def set_up(venv: Path, device: str, dev: bool) -> None:
    """Set up an environment, or do nothing if it is as it should be.

    Raises:
        SetupError: something is missing that only the user can provide.
    """
    check_python(sys.version_info[:3], platform.system(), platform.machine())
    stamp = read_stamp(venv)
    device = choose_device(device, stamp, stamp is None and device == "auto" and has_gpu())
    wanted = wanted_stamp(ROOT, device, dev or bool(stamp and stamp.dev_digest))
    if is_current(stamp, wanted):
        return
    venv.parent.mkdir(parents=True, exist_ok=True)
    turn = os.open(venv.parent, os.O_RDONLY)
    try:
        take_turn(turn)
        stamp = read_stamp(venv)
        if is_current(stamp, wanted):
            return
        check_compiler(device, os.environ, Path(sysconfig.get_paths()["include"]))
        check_libraries(device, ctypes.CDLL)
        check_disk(device, shutil.disk_usage(venv.parent).free, disk_use(venv))
        print(f"setting up {venv} for {device}, Python {wanted.python}", flush=True)
        make_venv(venv, stamp, wanted)
        install(venv, wanted)
        write_stamp(venv, wanted)
    finally:
        os.close(turn)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: .venv")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dev", action="store_true", help="the tools for working on Steersman too")
    arguments = parser.parse_args()
    # A job in the background starts with interrupts ignored, and would hand that on to pip.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends in the same orderly way
    try:
        set_up(arguments.venv.absolute(), arguments.device, arguments.dev)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
    except OSError as error:
        print(f"set-up: {error.filename or arguments.venv}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("set-up: interrupted; the next run goes on from here", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
