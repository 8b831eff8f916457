"""`steersman align`: what it asks, what it shows, and how it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from steersman.cli import app
from tests.unit.chains.server import RECEIPT, SEARCH, STEPS, MadeUpServer, chunk, serving

ASKED = {"method": "align", "return_chain": True}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUpServer]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("STEERSMAN_API_KEY", raising=False)
    with serving() as made_up:
        yield made_up


def run(server: MadeUpServer, *args: object, stdin: str | None = None) -> Result:
    command = ["align", "--url", server.url, *map(str, args)]
    return CliRunner().invoke(app, command, input=stdin)


def test_the_answer_alone_is_on_standard_output(server: MadeUpServer) -> None:
    result = run(server, "4+4=?")
    assert result.exit_code == 0, result.output
    assert result.stdout == "It is \\boxed{8}\n"


def test_what_was_not_said_is_left_to_the_server(server: MadeUpServer) -> None:
    run(server, "4+4=?")
    assert server.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "4+4=?"}],
            "stream": True,
            "control": {"search": {**ASKED, "target": {"power": 4.0}}, "events": ["steps"]},
        }
    ]
    assert set(server.keys) == {"Bearer none"}


def test_every_option_is_sent(server: MadeUpServer) -> None:
    options = (
        *("--reward", "verify", "--data", '{"reference": "8"}', "--beta", 0.5, "--steps", 2),
        *("--chains", 2, "--select", "best", "--look-ahead", 3, "--seed", 7, "--max-tokens", 99),
        *("--model", "tiny:concise", "--api-key", "secret"),
    )
    result = run(server, *options, stdin="4+4\n=?\n")
    assert result.exit_code == 0, result.output
    target = {"reward": {"name": "verify", "data": {"reference": "8"}}, "beta": 0.5}
    search = {"target": target, "steps": 2, "chains": 2, "select": "best", "look_ahead": 3}
    (body,) = server.bodies
    assert body["control"] == {"search": {**ASKED, **search}, "events": ["steps"]}
    assert (body["model"], body["seed"], body["max_tokens"]) == ("tiny:concise", 7, 99)
    assert body["messages"][0]["content"] == "4+4\n=?"
    assert set(server.keys) == {"Bearer secret"}


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (("--power", 2), {"power": 2.0}),
        (("--reward", "brief"), {"reward": "brief"}),
        (("--reward", "brief", "--beta", 2), {"reward": "brief", "beta": 2.0}),
    ],
)
def test_targets(server: MadeUpServer, options: tuple[Any, ...], target: dict[str, Any]) -> None:
    assert run(server, "?", *options).exit_code == 0
    assert server.bodies[0]["control"]["search"]["target"] == target


def test_a_log_has_a_line_for_each_step_then_answers_and_numbers(server: MadeUpServer) -> None:
    lines = [line.strip() for line in run(server, "4+4=?", "--steps", 2).stderr.splitlines()]
    assert lines[:4] == [
        "chain 0, step 1 of 2: accepted, target -6.00, 30 tokens, 100% accepted so far",
        "chain 1, step 1 of 2: rejected, target –, 12 tokens, 0% accepted so far",
        "chain 0, step 2 of 2: rejected, target -6.00, 30 tokens, 50% accepted so far",
        "chain 1, step 2 of 2: accepted, target -2.50, 20 tokens, 50% accepted so far",
    ]
    rest = {tuple(line.split()) for line in lines[4:]}
    assert ("8", "█" * 12, "50%") in rest
    assert ("9", "█" * 6, "25%") in rest
    assert ("(no", "answer)", "█" * 6, "25%") in rest
    assert ("accepted", "50%", "(50%,", "50%)") in rest
    assert ("target", "first", "-7.25,", "last", "-4.25,", "chosen", "-2.50") in rest
    assert ("effective", "samples", "3.60") in rest
    assert ("tokens", "drawn", "anew", "1,017") in rest
    assert ("tokens", "sampled", "1,234") in rest
    assert ("seconds", "2.5") in rest
    assert not any("stopped" in line or "reason" in line for line in lines)


def test_a_limit_and_an_answer_that_is_cut_off_are_told_of(server: MadeUpServer) -> None:
    search = {**SEARCH, "reward_errors": ["verify: NaN"]}
    applied = {**RECEIPT["applied"], "search": search, "stopped_by": "max_seconds"}
    receipt = {**RECEIPT, "applied": applied}
    server.stream = [chunk(reason="length", control={"steps": STEPS, **receipt})]
    result = run(server, "4+4=?")
    assert result.stdout == ""
    assert "no text behind its thinking" in result.stderr
    for words in ("max_seconds", "length", "verify: NaN", "chain 1, step 2 of 32"):
        assert words in result.stderr


def test_a_picture_is_written(server: MadeUpServer, tmp_path: Path) -> None:
    result = run(server, "4+4=?", "--picture", tmp_path / "chains.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "chains.png").read_bytes().startswith(b"\x89PNG")
    assert "chains.png" in result.stderr


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((" ",), "the question is empty"),
        (("?", "--power", 2, "--reward", "brief"), "two targets"),
        (("?", "--beta", 2), "--data and --beta are of a --reward"),
        (("?", "--data", "{}"), "--data and --beta are of a --reward"),
        (("?", "--reward", "brief", "--data", "{"), "--data: not valid JSON"),
        (("?", "--reward", "brief", "--data", "[1]"), "--data: must be a JSON object"),
        (("?", "--picture", "chains.doc"), "the suffix must be one of"),
        (("?", "--picture", "nowhere/chains.png"), "there is no directory"),
    ],
)
def test_what_cannot_be_asked_is_not(
    server: MadeUpServer, args: tuple[Any, ...], line: str
) -> None:
    result = run(server, *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("steersman: ")
    assert line in result.stderr
    assert not server.bodies


def error(message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "param": param, "code": 400}}


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (
            {"refusal": (400, error("must be at most 100", "control.search.target.power"))},
            "the server refuses the request: control.search.target.power: must be at most 100",
        ),
        ({"refusal": (401, error("no key"))}, "the server answered HTTP 401: no key"),
        ({"refusal": (500, error("two\nlines"))}, "the server answered HTTP 500: two lines"),
        (
            {"stream": [chunk(control={"steps": STEPS}), error("NaN in the logits")]},
            "the server ended the stream with an error: NaN in the logits",
        ),
        ({"stream": [chunk("8", "stop")]}, "{url}/v1/ has no receipt"),
        ({"stream": [chunk(control={"steps": [{"chain": 0}]})]}, "otherwise than expected"),
        ({"missing": 50}, "{url}/v1/ does not answer"),
        ({"capabilities": (404, {"detail": "Not Found"})}, "{url}/v1/ is not a Steersman server"),
        ({"capabilities": (200, {"hello": 1})}, "{url}/v1/ is not a Steersman server"),
        ({"capabilities": (401, error("no key"))}, "the server answered HTTP 401: no key"),
    ],
)
def test_an_error_is_one_line(server: MadeUpServer, reply: dict[str, Any], line: str) -> None:
    for name, value in reply.items():
        setattr(server, name, value)
    result = run(server, "?")
    assert result.exit_code == 2
    assert result.stdout == ""
    *_, last = result.stderr.splitlines()
    assert last.startswith("steersman: ")
    assert line.format(url=server.url) in last


def test_an_address_where_nobody_is() -> None:
    result = CliRunner().invoke(app, ["align", "?", "--url", "http://127.0.0.1:9/v1/"])
    assert result.exit_code == 2
    assert "http://127.0.0.1:9/v1/ does not answer" in result.stderr
