"""The package's front: names, listing, and the conversion's failures."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from steersman.models import ConsoleProgress, ModelError, listing, prepare
from steersman.models.build import convert_apart


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERSMAN_CACHE", str(tmp_path))
    return tmp_path


def test_the_listing_has_every_model_and_says_what_is_cached(root: Path) -> None:
    smollm2, reasoner = listing()
    assert (smollm2.name, smollm2.cached, smollm2.size_bytes) == ("smollm2", False, None)
    assert smollm2.path == root / "models/smollm2-b179c9523d0e"
    assert (reasoner.name, reasoner.cached) == ("reasoner", True)
    assert reasoner.size_bytes
    assert reasoner.size_bytes < 16e6


def test_a_packaged_model_needs_no_preparation(root: Path) -> None:
    directory = prepare("reasoner", progress=ConsoleProgress(Console(file=io.StringIO())))
    assert (directory / "config.json").is_file()
    assert not list(root.iterdir())


def test_a_failed_conversion_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ModelError, match=r"cannot convert x\.gguf: it ended with status 1"):
        convert_apart(tmp_path / "x.gguf", tmp_path)


def test_progress_prints_a_line_a_step_where_there_is_no_terminal() -> None:
    written = io.StringIO()
    with ConsoleProgress(Console(file=written)) as progress:
        progress.step("downloading", 2_000_000)
        progress.update(5)
        progress.step("converting")
    assert written.getvalue() == "downloading: 0 bytes of 2.0 MB\nconverting\n"


def test_progress_on_a_terminal_shows_bytes_only_of_steps_that_have_them() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    with ConsoleProgress(console) as progress:
        progress.step("downloading", 2_000_000)
        progress.step("converting")
    lines = [line for line in written.getvalue().splitlines() if "━" in line]
    assert any("✓ downloading" in line and "2.0 MB of 2.0 MB" in line for line in lines)
    assert not any("converting" in line and ("MB" in line or "bytes" in line) for line in lines)
