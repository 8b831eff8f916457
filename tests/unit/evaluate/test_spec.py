"""Reading a run from its file."""

from pathlib import Path

import pytest
import yaml

from steersman.evaluate.error import EvaluationError
from steersman.evaluate.spec import FileSet, load

RUN = {
    "name": "run",
    "model": "tiny",
    "problems": [{"set": "jsonl", "path": "problems.jsonl"}],
    "controls": {"single": None, "four": {"search": {"method": "first_finish", "n": 4}}},
    "baseline": "single",
}
EVIDENCE = Path(__file__).parents[3] / "evals" / "evidence"


def written(directory: Path, **changes: object) -> Path:
    path = directory / "run.yaml"
    path.write_text(yaml.safe_dump({**RUN, **changes}, sort_keys=False))
    return path


def test_a_run_has_defaults_and_paths_beside_its_file(tmp_path: Path) -> None:
    spec = load(written(tmp_path))
    assert spec.samples == 1
    (one,) = spec.problems
    assert isinstance(one, FileSet)
    assert one.path == tmp_path / "problems.jsonl"


def test_an_address_given_beside_the_file_wins(tmp_path: Path) -> None:
    path = written(tmp_path, url="http://a")
    assert load(path).url == "http://a"
    assert load(path, "http://b").url == "http://b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples: Input should be greater than or equal to 1, not 0"),
        ({"sample": 1}, "sample: Extra inputs are not permitted, not 1"),
        ({"baseline": "x"}, "baseline 'x' is none of the controls: single, four"),
        ({"controls": {"a|b": None}}, "controls.a|b"),
        ({"problems": []}, "problems: Tuple should have at least 1 item"),
        ({"problems": [{"set": "jsonl"}]}, "problems.0.jsonl.path: Field required"),
        ({"problems": [{"set": "mmlu"}]}, "problems.0"),
        ({"request": {"seed": 1}}, "request: seed cannot be set here"),
        ({"model": None}, "model: needed when no url is given"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_field(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EvaluationError) as error:
        load(written(tmp_path, **changes))
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'run.yaml'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["a: [", "", "- 1", "\x00"])
def test_a_file_that_is_no_run_is_an_error_of_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(EvaluationError) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_runs_of_the_repository_are_valid(path: Path) -> None:
    assert load(path).baseline == "single"
