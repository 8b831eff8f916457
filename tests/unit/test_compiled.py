"""The directory for compiled code, on file systems that code can and cannot be loaded from."""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from steersman import compiled
from steersman.compiled import VARIABLE, NoPlaceError, loads, place

CACHE = Path("/srv/cache")


@pytest.fixture
def noexec(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Directories, to be filled, below which no code can be loaded."""
    closed: set[Path] = set()
    monkeypatch.setattr(compiled, "loads", lambda path: closed.isdisjoint((path, *path.parents)))
    return closed


@pytest.mark.parametrize("given", [{}, {VARIABLE: "/srv/own"}])
def test_usually_nothing_is_changed(noexec: set[Path], given: dict[str, str]) -> None:
    noexec.add(CACHE)
    environment = {"STEERSMAN_CACHE": str(CACHE), **given}
    before = dict(environment)
    place(environment)
    assert environment == before


def test_where_temporary_files_are_no_code(noexec: set[Path]) -> None:
    noexec.add(Path(tempfile.gettempdir()))
    environment = {"STEERSMAN_CACHE": str(CACHE)}
    place(environment)
    placed = environment[VARIABLE]
    assert CACHE in Path(placed).parents
    place(environment)
    assert environment[VARIABLE] == placed


@pytest.mark.parametrize("given", [{}, {VARIABLE: "/srv/own"}])
def test_nowhere(noexec: set[Path], given: dict[str, str]) -> None:
    noexec |= {Path("/srv"), Path(tempfile.gettempdir())}
    environment = {"STEERSMAN_CACHE": str(CACHE), **given}
    with pytest.raises(NoPlaceError, match=rf"/srv/.* is mounted noexec: set {VARIABLE} to"):
        place(environment)


@pytest.mark.parametrize("flags", [0, os.ST_NOEXEC, os.ST_NOEXEC | os.ST_RDONLY])
def test_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int) -> None:
    asked: list[Path] = []

    def statvfs(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(f_flag=flags)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert loads(tmp_path / "not" / "there" / "yet") is not (flags & os.ST_NOEXEC > 0)
    assert asked == [tmp_path]
