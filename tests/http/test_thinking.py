"""First Finish Search and evaluation on a model that really thinks."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from steersman.cli import app
from steersman.puzzles.problems import problems, verify
from steersman_client import ControlSpec, Steersman
from tests.http.conftest import race
from tests.http.server import API_KEY, Server

MODEL = "reasoner"
(PROBLEM,) = problems("arithmetic", 3, "held_out", seed=1, count=1)
ASK: list[Any] = [{"role": "user", "content": PROBLEM.prompt}]


def test_capabilities_name_the_thinking_tokens(thinker: Steersman) -> None:
    markers = thinker.control.capabilities()["thinking_tokens"]
    assert (markers["start_text"], markers["end_text"]) == ("<think>", "</think>")


@pytest.mark.parametrize("control", [None, race(4)], ids=["plain", "first-finish"])
def test_reasoning_and_answer_are_split(thinker: Steersman, control: ControlSpec | None) -> None:
    answer = thinker.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=448, seed=3, control=control
    )
    message = answer.choices[0].message
    reasoning = (message.model_extra or {})["reasoning"]
    assert reasoning.strip()
    assert "think>" not in reasoning + (message.content or "")
    assert r"\boxed{" in (message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens
    stream = thinker.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=448, seed=3, stream=True, control=control
    )
    deltas = [chunk.choices[0].delta for chunk in stream if chunk.choices]
    thought = "".join((delta.model_extra or {}).get("reasoning") or "" for delta in deltas)
    content = "".join(delta.content or "" for delta in deltas)
    assert (thought, content) == (reasoning, message.content)


@pytest.mark.scale
def test_a_floor_of_thinking_rules_out_hasty_winners(thinker: Steersman) -> None:
    samples = thinker.chat.completions.create(
        model=MODEL, messages=ASK, seed=5, max_tokens=448, n=8, logprobs=True
    )
    lengths: list[tuple[int, int]] = []
    for choice in samples.choices:
        tokens = [entry.token for entry in (choice.logprobs and choice.logprobs.content) or ()]
        assert choice.finish_reason == "stop"
        lengths.append((tokens.index("</think>") - 1, len(tokens)))
    floors = [0, *sorted({thinking for thinking, _ in lengths})]
    winners = set()
    for floor in (floors[0], floors[len(floors) // 2], floors[-1]):
        winner = thinker.chat.completions.create(
            model=MODEL, messages=ASK, seed=5, max_tokens=448, control=race(8, min_thinking=floor)
        )
        assert winner.usage is not None
        shortest = min(length for thinking, length in lengths if thinking >= floor)
        assert winner.usage.completion_tokens == shortest, floor
        assert winner.control is not None
        assert winner.control.applied.search is not None
        assert winner.control.applied.search.decided_by == "first"
        winners.add(shortest)
    assert len(winners) > 1


def test_a_floor_that_nobody_reaches_falls_back(thinker: Steersman) -> None:
    answer = thinker.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=448, control=race(2, min_thinking=440)
    )
    assert answer.control is not None
    assert answer.control.applied.search is not None
    assert answer.control.applied.search.decided_by == "fallback"
    assert answer.control.applied.search.cancelled == 0


@pytest.mark.scale
def test_the_vote_is_over_boxed_answers(thinker: Steersman) -> None:
    answer = thinker.chat.completions.create(
        model=MODEL, messages=ASK, seed=2, max_tokens=448, control=race(8, k=8, min_thinking=10)
    )
    assert answer.control is not None
    search = answer.control.applied.search
    assert search is not None
    assert search.votes is not None
    best, count = search.votes[0]
    assert count == max(votes for _, votes in search.votes)
    content = answer.choices[0].message.content or ""
    assert rf"\boxed{{{best}}}" in content
    assert verify(PROBLEM, f"</think>{content}") == (best == PROBLEM.answer)


def run_file(directory: Path, baseline: str, each: int, controls: dict[str, Any]) -> Path:
    path = directory / "run.yaml"
    run = {
        "name": "smoke",
        "model": MODEL,
        "problems": [{"set": "reasoner", "each": each, "grades": [1]}],
        "controls": controls,
        "baseline": baseline,
        "max_tokens": 448,
    }
    path.write_text(yaml.safe_dump(run))
    return path


def test_an_evaluation_runs_reports_and_resumes(
    reasoner: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERSMAN_API_KEY", API_KEY)
    controls = {"single": None, "race": {"search": {"method": "first_finish", "n": 4}}}
    run = run_file(tmp_path, "single", 2, controls)
    out = tmp_path / "out"
    command = ["eval", str(run), "--out", str(out), "--url", reasoner.url]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    lines = (out / "responses.jsonl").read_text().splitlines()
    assert len(lines) == 20
    record = next(r for r in map(json.loads, lines) if r["control"] == "race")
    assert record["receipt"]["applied"]["search"]["launched"] == 4
    assert record["thinking_tokens"] > 0
    assert "race" in (out / "report.md").read_text()
    # As if it had been killed in the middle of a line.
    (out / "responses.jsonl").write_text("\n".join([*lines[:15], lines[15][:40]]))
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    resumed = (out / "responses.jsonl").read_text().splitlines()
    assert resumed[:15] == lines[:15]
    assert len(resumed) == 20


def test_an_evaluation_of_a_control_that_is_refused_says_why(
    reasoner: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERSMAN_API_KEY", API_KEY)
    controls = {"too many": {"search": {"method": "first_finish", "n": 99}}}
    run = run_file(tmp_path, "too many", 1, controls)
    result = CliRunner().invoke(
        app, ["eval", str(run), "--out", str(tmp_path / "out"), "--url", reasoner.url]
    )
    assert result.exit_code == 2
    assert "control.search.n" in result.output
    assert "0 of 5 responses are done" in result.output
