"""Drawing and grading with a scripted engine, and what is refused before it starts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from steersman.arguments import ArgumentError
from steersman.capabilities import Model
from steersman.directions import extract
from steersman.directions.error import DirectionError
from steersman.directions.extract import Drawing, Method, check, draw
from steersman.directions.sample import Sample
from steersman.evaluate.problems import Problem
from steersman.trajectory.phases import Markers, opens_thinking
from tests.unit.directions.made_up import MARKERS

TEXTS = ("<eos>", "<think>", "</think>", "Paris", "Rome", "let me see", "?")
RIGHT, WRONG, OPEN, PLAIN = (1, 5, 2, 3, 0), (1, 5, 5, 2, 4, 0), (1, 3, 3), (3, 0)
DRAWING = Drawing(samples=4)
LONGEST = 8


class ScriptedEngine:
    """Gives the responses of a script, by seed."""

    markers: Markers | None = MARKERS
    script: Sequence[tuple[int, ...]] = ()
    started = 0
    asked: tuple[list[list[int]], list[int], dict[str, Any]] | None = None

    def __init__(self, model: str, arguments: Sequence[str]) -> None:
        type(self).started += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def model(self) -> Model:
        return Model(
            names=("scripted",),
            architecture="none",
            hidden_size=1,
            layers=1,
            vocabulary=len(TEXTS),
            max_model_len=LONGEST,
        )

    def texts(self) -> list[str]:
        return list(TEXTS)

    def opens_thinking(self, prompt: Sequence[int]) -> bool:
        return opens_thinking(prompt, self.markers)

    def prompt(self, question: str) -> list[int]:
        return [6] * len(question)

    def text(self, token_ids: Sequence[int], *, special: bool = True) -> str:
        return "".join(TEXTS[token] for token in token_ids if token or special)

    def respond(
        self, prompts: list[list[int]], seeds: Sequence[int], **sampling: Any
    ) -> Iterator[tuple[int, ...]]:
        type(self).asked = (prompts, list(seeds), sampling)
        return (self.script[seed] for seed in seeds)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedEngine]:
    class Engine(ScriptedEngine):
        script = (RIGHT, WRONG, OPEN, PLAIN)

    monkeypatch.setattr(extract, "OfflineEngine", Engine)
    return Engine


def problem(question: str = "?", id: str = "p", *, verifiable: bool = True) -> Problem:
    return Problem(id, "g", question, "Paris", lambda text: text == "Paris", verifiable)


def drawn(
    log: Path,
    *problems: Problem,
    drawing: Drawing = DRAWING,
    arguments: Sequence[str] = (),
    texts: bool = False,
) -> tuple[list[Sample], list[str]]:
    asked = problems or (problem(),)
    return draw("some/model", arguments, asked, drawing, log, lambda *_: None, texts=texts)


def test_the_text_after_thinking_is_graded_without_special_tokens(
    tmp_path: Path, engine: type[ScriptedEngine]
) -> None:
    samples, texts = drawn(tmp_path / "log", texts=True)
    assert [one.correct for one in samples] == [True, False, False, True]
    assert [one.response for one in samples] == [RIGHT, WRONG, OPEN, PLAIN]
    assert [one.thinking_tokens for one in samples] == [1, 2, 0, 0]
    assert texts == list(TEXTS)


@pytest.mark.usefixtures("engine")
def test_what_cannot_be_verified_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    samples, _ = drawn(tmp_path / "log", problem(verifiable=False))
    assert [one.correct for one in samples] == [None] * 4


def test_every_response_has_a_seed_of_its_own(tmp_path: Path, engine: type[ScriptedEngine]) -> None:
    drawing = Drawing(samples=2, temperature=0.5, max_tokens=7, seed=0)
    drawn(tmp_path / "log", problem("?", "p"), problem("??", "q"), drawing=drawing)
    assert engine.asked == (
        [[6], [6], [6, 6], [6, 6]],
        [0, 1, 2, 3],
        {"temperature": 0.5, "max_tokens": 7},
    )


def test_a_cut_file_is_gone_on_with(tmp_path: Path, engine: type[ScriptedEngine]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    samples, _ = drawn(whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:3]) + lines[3][:20])

    assert drawn(cut)[0] == samples

    assert cut.read_bytes() == whole.read_bytes()
    assert engine.asked is not None
    assert engine.asked[1] == [2, 3]


def test_a_whole_file_needs_no_engine(tmp_path: Path, engine: type[ScriptedEngine]) -> None:
    log = tmp_path / "log"
    samples, _ = drawn(log)
    assert engine.started == 1
    assert drawn(log) == (samples, [])
    assert engine.started == 1
    assert drawn(log, texts=True) == (samples, list(TEXTS))
    assert engine.started == 2


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "changed",
    [problem("another?"), problem(id="q"), problem(verifiable=False)],
    ids=["question", "id", "verifiable"],
)
def test_other_problems_are_other_samples(tmp_path: Path, changed: Problem) -> None:
    log = tmp_path / "log"
    drawn(log)
    before = log.read_bytes()
    with pytest.raises(DirectionError, match="--samples-file"):
        drawn(log, changed)
    assert log.read_bytes() == before


def test_a_model_without_thinking_is_refused(tmp_path: Path, engine: type[ScriptedEngine]) -> None:
    engine.markers = None
    with pytest.raises(DirectionError, match="--reasoning-parser") as caught:
        drawn(tmp_path / "log")
    assert caught.value.field == "model"
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("engine")
def test_a_prompt_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    fits = problem("?" * (LONGEST - 1), "fits")
    drawn(tmp_path / "log", fits)
    with pytest.raises(DirectionError, match=f"the prompt of long has {LONGEST} tokens") as caught:
        drawn(tmp_path / "other", fits, problem("?" * LONGEST, "long"))
    assert caught.value.field == "problems"
    assert not (tmp_path / "other").exists()


def test_what_could_not_be_captured_is_not_sampled(
    tmp_path: Path, engine: type[ScriptedEngine]
) -> None:
    speculating = ["--speculative-config", '{"method": "ngram"}']
    with pytest.raises(ArgumentError, match="--speculative-config"):
        drawn(tmp_path / "log", arguments=speculating)
    assert engine.started == 0


@pytest.mark.parametrize(
    ("method", "options", "field"),
    [
        ("thinkedit", {"long_tokens": 5, "short_tokens": 100}, "long_tokens"),
        ("thinkedit", {"short_tokens": 0}, "short_tokens"),
        ("thinkedit", {"by": "percentiles", "long_percentile": 5.0}, "long_percentile"),
        ("thinkedit", {"by": "percentiles", "short_percentile": 0.0}, "short_percentile"),
        ("thinkedit", {"least": 0}, "least"),
        ("efficiency", {"least": 0}, "least"),
        ("segments", {"recheck": ["Wait", " "]}, "recheck"),
    ],
)
def test_options_are_checked_before_anything_is_drawn(
    method: Method, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(DirectionError) as caught:
        check(method, options, [problem()], Drawing())
    assert caught.value.field == field


@pytest.mark.parametrize("method", ["thinkedit", "segments"])
def test_methods_that_need_no_answers_take_any_problems(method: Method) -> None:
    check(method, {}, [problem(verifiable=False)], Drawing(samples=1, temperature=0))


def test_efficiency_needs_answers_that_can_be_verified() -> None:
    check("efficiency", {}, [problem()], Drawing())
    with pytest.raises(DirectionError) as caught:
        check("efficiency", {}, [problem(), problem(id="q", verifiable=False)], Drawing())
    assert caught.value.field == "problems"
    assert caught.value.message == (
        "--problems: 1 of 2 problems have no answer that can be verified, the first is q: "
        "efficiency compares right responses"
    )


@pytest.mark.parametrize("drawing", [Drawing(samples=1), Drawing(temperature=0)])
def test_efficiency_needs_responses_that_differ(drawing: Drawing) -> None:
    with pytest.raises(DirectionError, match="--samples must be at least 2 and --temperature"):
        check("efficiency", {}, [problem()], drawing)
