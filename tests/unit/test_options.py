"""Options of `steersman serve`: the parser's, and what the docs say of them."""

import re
from pathlib import Path

import click
import pytest
import typer

from steersman import cli, options
from steersman.cli import app
from steersman.engine.settings import NAP, TAKE

DOCS = Path(__file__).resolve().parents[2] / "docs"
SWITCHES = {"--steering": "--no-steering", "--model-controls": "--no-model-controls"}


def parameters() -> dict[str, click.Parameter]:
    """Options of the parser; of a switch the name that is not its default."""
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    named = {parameter.opts[0]: parameter for parameter in command.params}
    return {SWITCHES.get(name, name): parameter for name, parameter in named.items()}


def documented() -> dict[str, str]:
    """The defaults in the table of options, by option."""
    page = (DOCS / "serving.md").read_text()
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \|([^|]*)\|", page, re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def default(name: str, parameter: click.Parameter) -> str:
    """The default of an option, as the table writes it."""
    if name == "--edit-rows":
        return f"{options.EDIT_ROWS} with edits on offer, else {options.STEERING.edit_rows}"
    if isinstance(parameter.default, bool):
        assert parameter.default is (name in SWITCHES.values())
        return ""
    if parameter.envvar:
        return f"`${parameter.envvar}`"
    if isinstance(parameter.default, str):
        return str(parameter.default)
    return "none" if parameter.default is None else f"{parameter.default:.10g}"


def test_the_table_of_options_is_the_parsers() -> None:
    expected = {name: default(name, parameter) for name, parameter in parameters().items()}
    assert {name: value.strip() for name, value in documented().items()} == expected


def test_defaults_in_running_text() -> None:
    """`--option` (default), of any page."""
    text = "".join(page.read_text() for page in DOCS.glob("*.md"))
    known = parameters()
    found = dict(re.findall(r"`(--[a-z-]+)` \(([0-9][0-9_.]*)\)", text))
    told = {name: value for name, value in found.items() if name in known}
    assert told == {name: default(name, known[name]) for name in told}
    assert "--steering-rows" in told


def test_each_option_has_help() -> None:
    assert all(parameter.help for parameter in parameters().values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("copied", ["", "MINE"])
def test_rays_workers_get_our_variables(copied: str) -> None:
    environment = {"VLLM_RAY_EXTRA_ENV_VARS_TO_COPY": copied} if copied else {}
    cli._set_environment(environment)
    assert environment[TAKE] == "1"
    names = environment["VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"].split(",")
    assert names == [*filter(None, [copied]), NAP, TAKE]
