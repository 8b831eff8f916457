"""Whole runs against a made-up server."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from steersman.evaluate import plots
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.evaluation import run_evaluation
from tests.unit.evaluate.made_up import SEARCH, problems
from tests.unit.evaluate.server import MadeUpServer, Reply, refusal, serving

PROBLEMS = 30
RESPONSES = 2 * 2 * PROBLEMS


@pytest.fixture
def server() -> Iterator[MadeUpServer]:
    with serving() as server:
        yield server


class Run:
    """A run's file and directory."""

    def __init__(self, directory: Path, server: MadeUpServer) -> None:
        self.server = server
        self.out = directory / "out"
        self.console = Console(file=(directory / "console").open("w+"), width=200)
        self._path = directory / "run.yaml"
        lines = [{"question": f"What is {i}?", "answer": str(i)} for i in range(PROBLEMS)]
        (directory / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def do(self, **changes: Any) -> Path:
        self.server.bodies.clear()
        fields = {
            "name": "made-up",
            "url": self.server.url,
            "problems": [{"set": "jsonl", "path": "set.jsonl"}],
            "controls": {"single": None, "search": SEARCH},
            "baseline": "single",
            "samples": 2,
            "concurrency": 4,
        }
        self._path.write_text(yaml.safe_dump({**fields, **changes}))
        return run_evaluation(self._path, self.out, None, self.console)

    def fails(self, **changes: Any) -> str:
        with pytest.raises(EvaluationError) as error:
            self.do(**changes)
        return str(error.value)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Records without the parts that depend on the clock, in a fixed order."""
        lines = (self.out / "responses.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            assert record.pop("latency_seconds") > 0
        return sorted(records, key=lambda r: (r["control"], r["problem"], r["sample"]))


@pytest.fixture
def drawing_run(tmp_path: Path, server: MadeUpServer) -> Iterator[Run]:
    run = Run(tmp_path, server)
    yield run
    run.console.file.close()


@pytest.fixture
def run(drawing_run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run without plots, which take longer than all else."""
    monkeypatch.setattr(plots, "draw", lambda *_: [])
    return drawing_run


@pytest.fixture
def whole(
    run: Run, tmp_path_factory: pytest.TempPathFactory, server: MadeUpServer
) -> list[dict[str, Any]]:
    """The records of a run that nothing disturbed."""
    undisturbed = Run(tmp_path_factory.mktemp("whole"), server)
    with undisturbed.console.file:
        undisturbed.do()
    return undisturbed.records


def test_a_run_writes_its_report_and_plots(drawing_run: Run) -> None:
    page = drawing_run.do()
    assert page == drawing_run.out / "report.md"
    assert len(drawing_run.records) == len(drawing_run.server.bodies) == RESPONSES
    report = json.loads((drawing_run.out / "report.json").read_text())
    assert report["model"] == "tiny"
    assert report["comparisons"]["search"]["sampled_tokens"]["value"] == pytest.approx(4.0)
    # The made-up server answers the same under every control.
    assert report["comparisons"]["search"]["verdict"] == "indistinguishable"
    text = page.read_text()
    assert "**search** is indistinguishable in accuracy from single: +0.0" in text
    assert "4.00× [4.00×, 4.00×] the tokens" in text
    for plot in ("accuracy_and_tokens", "thinking_tokens", "entropy"):
        assert f"({plot}.png)" in text
        assert (drawing_run.out / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
    # 60 responses of the baseline are too few for tenths.
    assert not (drawing_run.out / "accuracy_by_length.png").exists()
    drawing_run.console.file.seek(0)
    told = drawing_run.console.file.read()
    assert f"made-up: 0 of {RESPONSES}\n" in told
    assert "search is indistinguishable in accuracy from single" in told


def test_a_run_with_many_responses_has_deciles(drawing_run: Run) -> None:
    page = drawing_run.do(samples=4)
    assert "The shortest tenth of the baseline" in page.read_text()
    assert (drawing_run.out / "accuracy_by_length.png").exists()


def test_a_finished_run_asks_nothing_again_and_writes_the_same_report(run: Run) -> None:
    first = run.do().read_text()
    assert run.do(url="http://127.0.0.1:9").read_text() == first
    assert run.server.bodies == []


def test_a_run_goes_on_after_its_server_failed(run: Run, whole: list[dict[str, Any]]) -> None:
    run.server.script = lambda body, before: (
        (500, {"error": {"message": "the engine is dead"}}) if before >= 20 else None
    )
    message = run.fails()
    done = len(run.records)
    assert "the engine is dead" in message
    assert f"({done} of {RESPONSES} responses are done; the same command goes on" in message
    assert 17 <= done <= 20
    assert not (run.out / "report.md").exists()

    run.server.script = lambda body, before: None
    run.do()
    assert len(run.server.bodies) == RESPONSES - done
    assert run.records == whole


def test_a_run_goes_on_after_a_kill_in_the_middle_of_a_line(
    run: Run, whole: list[dict[str, Any]]
) -> None:
    run.do()
    log = run.out / "responses.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:50]) + lines[50][:30])
    run.do()
    assert len(run.server.bodies) == RESPONSES - 50
    assert run.records == whole


def test_a_run_goes_on_after_ctrl_c(run: Run, whole: list[dict[str, Any]]) -> None:
    # A test run in the background starts with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(body: dict[str, Any], before: int) -> None:
        if before == 30:
            os.kill(os.getpid(), signal.SIGINT)

    run.server.script = interrupt
    message = run.fails()
    done = len(run.records)
    assert message.startswith(f"interrupted ({done} of {RESPONSES} responses are done")
    assert 0 < done < RESPONSES

    run.server.script = lambda body, before: None
    run.do()
    assert len(run.server.bodies) == RESPONSES - done
    assert run.records == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.5},
        {"samples": 3},
        {"seed": 1},
        {"controls": {"single": None, "search": {"search": {"method": "first_finish", "n": 5}}}},
        {"problems": [{"set": "jsonl", "path": "set.jsonl", "count": 9}]},
    ],
)
def test_another_run_in_the_same_directory_is_refused(run: Run, changes: dict[str, Any]) -> None:
    run.do()
    before = run.records
    assert "holds the responses of a different run" in run.fails(**changes)
    assert run.records == before
    assert run.server.bodies == []


def test_what_answers_do_not_depend_on_may_change(run: Run) -> None:
    run.do()
    run.do(concurrency=1, baseline="search", name="other")
    assert run.server.bodies == []
    assert "# other" in (run.out / "report.md").read_text()


def test_a_refused_control_ends_the_run_with_the_reason(run: Run) -> None:
    def refuse(body: dict[str, Any], before: int) -> Reply | None:
        return refusal("control.search.n", "n (4) is above 2") if "control" in body else None

    run.server.script = refuse
    assert "server refuses control 'search': control.search.n: n (4) is above 2" in run.fails()


def test_a_server_that_is_not_there_ends_the_run(run: Run) -> None:
    message = run.fails(url="http://127.0.0.1:9")
    assert message.startswith("http://127.0.0.1:9/v1/ does not answer")
    assert f"(0 of {RESPONSES} responses are done" in message


def test_a_model_that_is_not_served_ends_the_run(run: Run) -> None:
    assert "serves tiny, not other" in run.fails(model="other")


def test_a_run_is_not_gone_on_with_on_another_model(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.server.script = lambda body, before: (500, {}) if before >= 20 else None
    run.fails()
    monkeypatch.setattr("tests.unit.evaluate.server.MODEL", "other")
    assert "begun with the model tiny, this is other" in run.fails()


def test_an_address_may_end_as_that_of_an_openai_client(run: Run) -> None:
    run.do(url=f"{run.server.url}/v1/")
    assert len(run.records) == RESPONSES


def test_a_directory_that_cannot_be_made_is_an_error(run: Run) -> None:
    run.out.write_text("a file")
    assert "cannot be written" in run.fails()


def test_a_server_that_does_not_start_ends_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steersman.local import LocalServer

    def failing(arguments: list[str], log: Path) -> LocalServer:
        assert arguments == ["tiny", "--max-num-seqs", "8"]
        return LocalServer(["sh", "-c", "echo no such model; exit 2"], log)

    monkeypatch.setattr(LocalServer, "steersman", failing)
    message = run.fails(url=None, model="tiny", server=["--max-num-seqs", "8"])
    assert "no such model" in message


def test_a_placeholder_that_a_problem_cannot_fill_ends_the_run_before_it_asks(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = [replace(problem, answer="") for problem in problems(2)]
    monkeypatch.setattr("steersman.evaluate.problems.load", lambda *_: unknown)
    message = run.fails(controls={"single": None, "search": {"reference": "{answer}"}})
    assert message == "control 'search' has {answer}, but problem p0 has no answer"
    assert run.server.bodies == []
