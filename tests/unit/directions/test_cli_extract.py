"""Refusals of `steersman directions extract`: in one line, before it samples, and writing nothing.

No engine is started here: where samples are needed, all of them are in the file already.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from steersman.cli import app
from steersman.directions.extract import Drawing, drawn_with
from steersman.directions.log import SampleLog
from steersman.directions.sample import Sample
from steersman.evaluate.answers import Comparer
from steersman.evaluate.problems import load
from steersman.evaluate.spec import ReasonerSet
from tests.unit.directions.made_up import sample

PROBLEMS = {"set": "reasoner", "each": 12, "kinds": ["arithmetic"], "grades": [1]}


@pytest.fixture(autouse=True)
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.yaml"
    path.write_text(json.dumps([PROBLEMS]))
    return path


def run(directory: Path, *options: object, method: str = "thinkedit") -> Result:
    given = {"--problems": directory / "problems.yaml", "--out": directory / "made.safetensors"}
    fixed = [x for option, value in given.items() if option not in options for x in (option, value)]
    command = ["directions", "extract", "reasoner", "--method", method, *fixed, *options]
    return CliRunner().invoke(app, [str(word) for word in command])


def refusal(directory: Path, *options: object, method: str = "thinkedit") -> str:
    """Message of a command that writes nothing."""
    before = {path: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    result = run(directory, *options, method=method)
    assert result.exit_code == 2, result.output
    message = result.output.strip()
    assert len(message.splitlines()) == 1, message
    after = {path: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert after == before
    return message.removeprefix("steersman: ")


def keep(log: Path, samples: Sequence[Sample], arguments: Sequence[str] = ()) -> None:
    """Leave samples as an earlier run would have, one of each problem."""
    with Comparer() as comparer:
        asked = load([ReasonerSet.model_validate(PROBLEMS)], comparer)
    book = SampleLog(log, drawn_with("reasoner", arguments, asked, Drawing(samples=1)))
    book.add([*samples])


def traces(*lengths: int | None) -> list[Sample]:
    assert len(lengths) == PROBLEMS["each"]
    return [sample(length, problem=f"p{i}") for i, length in enumerate(lengths)]


def test_too_few_samples_say_which_thresholds_would_do(tmp_path: Path) -> None:
    log = tmp_path / "made.jsonl"
    keep(log, traces(4, 5, 6, 7, 20, 21, 22, 23, None, None, None, None))
    message = refusal(tmp_path, "--samples", 1, "--least", 3)
    assert message == (
        "--long: of 8 closed traces 0 are long (1001 thinking tokens or more) and 8 short (99 or "
        "fewer), 3 of each are needed: long_tokens=20 and short_tokens=7 would give 3 and 3 "
        f"(12 responses are kept in {log})"
    )


def test_without_a_closed_trace_the_responses_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "kept"
    keep(log, traces(*[None] * 12))
    message = refusal(tmp_path, "--samples", 1, "--samples-file", log)
    assert message.startswith("none of 12 samples has a thinking phase that was closed")
    assert message.endswith(f"(12 responses are kept in {log})")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--long", 5, "--short", 100), "--long: long_tokens=5 is below short_tokens=100"),
        (("--short", 0), "--short: short_tokens=0: must be at least 1"),
        (("--long", 5.5), "--long 5.5: must be a whole number of tokens"),
        (("--long", "nan"), "--long nan: must be a whole number of tokens"),
        (
            ("--thresholds", "percentiles", "--long", 10, "--short", 90),
            "--long: long_percentile=10 must be above short_percentile=90",
        ),
        (
            ("--thresholds", "percentiles", "--short", 101),
            "--short: short_percentile=101: must be between 0 and 100",
        ),
        (
            ("--recheck", "Wait"),
            "--closing-only, --within-problems and --recheck are for segments, not for thinkedit",
        ),
        (("--sampels", 5), "unrecognized arguments: --sampels 5"),
        (("--max-num-seqs", "many"), "argument --max-num-seqs: "),
        (("--speculative-config", '{"method": "ngram"}'), "--speculative-config cannot be used"),
    ],
)
def test_options_that_cannot_work(tmp_path: Path, options: tuple[Any, ...], message: str) -> None:
    assert refusal(tmp_path, *options).startswith(message)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("efficiency", ("--samples", 1), "--samples must be at least 2"),
        ("efficiency", ("--temperature", 0), "--temperature above 0"),
        ("efficiency", ("--long", 5), "are for thinkedit, not for efficiency"),
        ("segments", ("--recheck", " "), "--recheck: give at least one marker, and none blank"),
        ("segments", ("--thresholds", "percentiles"), "are for thinkedit, not for segments"),
    ],
)
def test_options_that_a_method_cannot_have(
    tmp_path: Path, method: str, options: tuple[Any, ...], message: str
) -> None:
    assert message in refusal(tmp_path, *options, method=method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "{0}/made.bin"), "--out {0}/made.bin: must end in .safetensors"),
        (("--out", "{0}/made"), "--out {0}/made: must end in .safetensors"),
        (("--out", "{0}/no/x.safetensors"), "--out {0}/no/x.safetensors: there is no directory"),
        (("--samples-file", "{0}/no/log"), "--samples-file {0}/no/log: there is no directory"),
        (("--samples-file", "{0}"), "--samples-file {0}: is a directory"),
        (("--samples-file", "{0}/made.safetensors"), "is the same file as --out"),
        (("--samples-file", "{0}/problems.yaml"), "does not begin with how these samples are"),
    ],
)
def test_files_that_could_not_be_written(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    given = [option.format(tmp_path) for option in options]
    assert message.format(tmp_path) in refusal(tmp_path, *given)


def test_answers_that_cannot_be_verified_are_refused_where_they_are_needed(tmp_path: Path) -> None:
    questions = [{"question": "1 + 1?", "answer": "2"}, {"question": "Why?"}]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, questions)))
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text("[{set: jsonl, path: set.jsonl}]")
    message = refusal(tmp_path, "--problems", mixed, method="efficiency")
    assert message.startswith(
        "--problems: 1 of 2 problems have no answer that can be verified, the first is set-2"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{set: jsonl, path: none.jsonl}]", "none.jsonl: cannot be read"),
        ("[{set: reasoner, each: 0}]", "each: Input should be greater than or equal to 1"),
        ("set: reasoner", "should be a valid tuple"),
        ("[]", "no problem sets"),
        ("[a: b: c\n- d", "not valid YAML"),
        (b"\xff\xfe\xfa", "cannot be read"),
    ],
)
def test_problems_that_cannot_be_had(
    tmp_path: Path, problems: Path, content: str | bytes, message: str
) -> None:
    problems.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = refusal(tmp_path)
    assert found.startswith(f"--problems: {tmp_path}")
    assert message in found
