"""The package's front: names, listing, and the conversion's failures."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from steersman.models import BUILT_IN, ConsoleProgress, ModelError, listing, resolve
from steersman.models.build import convert_apart


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERSMAN_CACHE", str(tmp_path))
    return tmp_path


def test_a_built_in_name_resolves_into_the_cache(root: Path) -> None:
    assert resolve("smollm2") == root / "models/smollm2-b179c9523d0e"


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "./smollm2", "SMOLLM2", ""])
def test_other_names_are_not_built_in(name: str) -> None:
    assert resolve(name) is None


def test_the_listing_has_every_model_and_says_what_is_cached(root: Path) -> None:
    statuses = listing()
    assert [status.name for status in statuses] == list(BUILT_IN)
    assert not any(status.cached for status in statuses)
    assert [status.size_bytes for status in statuses] == [None]


def test_a_failed_conversion_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ModelError, match=r"cannot convert x\.gguf: it ended with status 1"):
        convert_apart(tmp_path / "x.gguf", tmp_path)


def test_progress_prints_a_line_a_step_where_there_is_no_terminal() -> None:
    written = io.StringIO()
    with ConsoleProgress(Console(file=written)) as progress:
        progress.step("downloading", 10)
        progress.advance(5)
        progress.step("converting")
    assert written.getvalue() == "downloading\nconverting\n"


def test_progress_on_a_terminal_shows_bytes_only_of_steps_that_have_them() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    with ConsoleProgress(console) as progress:
        progress.step("downloading", 2_000_000)
        progress.step("converting")
    lines = [line for line in written.getvalue().splitlines() if "━" in line]
    assert any("✓ downloading" in line and "2.0/2.0 MB" in line for line in lines)
    assert not any("converting" in line and ("MB" in line or "bytes" in line) for line in lines)
