"""The order of the questions, and their seeds."""

from collections import Counter

from steersman.evaluate.schedule import Question, questions, seed_of
from tests.unit.evaluate.made_up import problems, spec

CONTROLS = {"a": None, "b": {}, "c": {}}


def asked(samples: int = 2, count: int = 30, seed: int = 0) -> list[Question]:
    run = spec(controls=CONTROLS, baseline="a", samples=samples, seed=seed)
    return questions(run, problems(count))


def test_every_question_is_asked_once() -> None:
    keys = [question.key for question in asked()]
    assert len(set(keys)) == len(keys) == 3 * 30 * 2


def test_controls_share_the_seed_of_a_sample_and_no_two_samples_do() -> None:
    seeds: dict[tuple[str, int], set[int]] = {}
    for question in asked():
        seeds.setdefault((question.problem.id, question.sample), set()).add(question.seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_controls_take_turns_to_be_first() -> None:
    order = asked()
    turns = [order[i : i + 3] for i in range(0, len(order), 3)]
    for turn in turns:
        assert {question.control for question in turn} == set(CONTROLS)
        assert len({(question.problem.id, question.sample) for question in turn}) == 1
    assert Counter(turn[0].control for turn in turns) == {"a": 20, "b": 20, "c": 20}


def test_the_order_repeats_and_mixes_the_problems() -> None:
    assert [q.key for q in asked()] == [q.key for q in asked()]
    assert [q.key for q in asked()] != [q.key for q in asked(seed=1)]
    ids = [question.problem.id for question in asked(samples=1)][::3]
    assert ids != [problem.id for problem in problems(30)]


def test_a_seed_is_fixed_for_all_time_and_fits_into_a_json_number() -> None:
    assert seed_of(0, "p0", 0) == 242712665853008
    assert all(0 <= seed_of(run, "p", 0) < 2**48 for run in range(100))
