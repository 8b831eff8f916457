"""Commands of the README: each one is run, or parsed where it would start a server or the tests."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.server import API_KEY, Server

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    """Contents of the fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


MAKE = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")]
CURL = [block for block in blocks("sh") if block.startswith("curl ")]
PYTHON = blocks("python")


def run(*command: str) -> str:
    """Standard output of a command that succeeds."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def addressed(text: str, server: Server) -> str:
    """The text with the address of a server in place of the README's."""
    assert ADDRESS in text
    return text.replace(ADDRESS, server.url)


def asked(curl: str, server: Server) -> dict[str, Any]:
    """Response to a `curl` command, with the key of a server."""
    script = addressed(curl, server)
    key = f"curl --fail-with-body -H 'Authorization: Bearer {API_KEY}' "
    response: dict[str, Any] = json.loads(run("bash", "-c", script.replace("curl ", key, 1)))
    return response


def test_every_block_of_the_readme_is_of_a_kind_that_is_run() -> None:
    assert README.count("```") == 2 * len(re.findall(r"^```(?:sh|python|json)$", README, re.M))
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == len(MAKE) + sum(len(block.splitlines()) for block in CURL)
    assert MAKE
    assert CURL
    assert PYTHON


def test_a_make_command_serves_or_tests() -> None:
    told = [
        run("make", "-n", "--no-print-directory", *shlex.split(command, comments=True)[1:])
        .strip()
        .splitlines()[-1]
        for command in MAKE
    ]
    serving = [line.split("/steersman serve ")[1] for line in told if "/steersman serve " in line]
    others = [line.split()[0] for line in told if "/steersman serve " not in line]
    assert others == [".venv/bin/pytest"]
    # In a process of its own, as it sets variables of the environment.
    script = (
        "import shlex, sys\n"
        "from steersman.arguments import parse\n"
        "for line in sys.argv[1:]:\n"
        "    args = parse(shlex.split(line))\n"
        "    print(*args.served_model_name, args.port)\n"
    )
    named = [f"{shlex.split(line)[0]} 8000" for line in serving]
    assert run(sys.executable, "-c", script, *serving).splitlines()[-len(named) :] == named


@pytest.mark.parametrize("command", CURL)
def test_a_curl_command_is_answered_under_its_control(command: str, reasoner: Server) -> None:
    response = asked(command, reasoner)
    body = json.loads(command.split("-d '")[1].rstrip().removesuffix("'"))
    assert response["choices"][0]["message"]["content"]
    receipt = response["control"]
    for part, value in body["control"].items():
        assert part in receipt["applied"]
        if part == "profile":
            assert receipt["applied"][part] == value


@pytest.mark.parametrize("script", PYTHON)
def test_a_script_runs(script: str, reasoner: Server) -> None:
    assert 'api_key="none"' in script
    keyed = addressed(script, reasoner).replace('api_key="none"', f'api_key="{API_KEY}"')
    assert run(sys.executable, "-c", keyed).strip()


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Paths of all fields of a JSON value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{at}.{name}"
            yield from paths(inner, f"{at}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")


def test_the_receipt_has_the_fields_that_the_readme_shows(reasoner: Server) -> None:
    (shown,) = [json.loads(f"{{{block}}}") for block in blocks("json")]
    response = asked(CURL[0], reasoner)
    assert ".control.applied.steer[].tokens" in set(paths(shown))
    assert set(paths(shown)) <= set(paths(response))
