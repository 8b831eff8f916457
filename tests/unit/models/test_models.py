"""The package's front: names, listing, and the conversion's failures."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from steersman.models import ConsoleProgress, ModelError, listing, prepare
from steersman.models.build import convert_apart, set_generation
from steersman.models.catalog import BUILT_IN

MODEL = BUILT_IN["smollm2"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERSMAN_CACHE", str(tmp_path))
    return tmp_path


def test_the_listing_has_every_model_and_says_what_is_cached(root: Path) -> None:
    smollm2, reasoner = listing()
    assert (smollm2.name, smollm2.cached, smollm2.size_bytes) == ("smollm2", False, None)
    assert smollm2.path == root / "models" / MODEL.key
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


def test_generation_settings_stand_beside_what_the_conversion_wrote(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": 2, "temperature": 1.0}))
    set_generation(tmp_path, MODEL.generation)
    assert json.loads(file.read_text()) == {
        "do_sample": True,
        "eos_token_id": 2,
        "temperature": 0.2,
        "top_p": 0.9,
    }


def test_a_directory_without_generation_settings_gets_them(tmp_path: Path) -> None:
    set_generation(tmp_path, {"top_p": 0.5})
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"top_p": 0.5}


def test_other_settings_or_other_weights_have_another_directory() -> None:
    hotter = dataclasses.replace(MODEL, generation={**MODEL.generation, "temperature": 0.3})
    source = dataclasses.replace(MODEL.source, member_sha256="0" * 64)
    other = dataclasses.replace(MODEL, source=source)
    assert len({MODEL.key, hotter.key, other.key}) == 3
    assert dataclasses.replace(MODEL, generation=dict(MODEL.generation)).key == MODEL.key


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
