from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.steering.configuration import Configuration, Term
from steersman_kernels.layout import CLASSES

TERM = Term("a", 0.5)


def classes(*terms: Term) -> dict[tuple[str, bool], int]:
    return dict(zip(CLASSES, Configuration.of(terms).rows, strict=True))


@pytest.mark.parametrize(
    ("change", "steered"),
    [
        ({}, {"thinking", "answer"}),
        ({"phase": "thinking"}, {"thinking"}),
        ({"phase": "answer"}, {"answer"}),
        ({"prompt": True}, {"prompt", "thinking", "answer"}),
        ({"phase": "answer", "prompt": True}, {"prompt", "answer"}),
        ({"strength": 0.0}, set()),
    ],
)
@pytest.mark.parametrize("at", ["all", "boundary"])
def test_a_term_applies_to_its_segments(
    change: dict[str, object], steered: set[str], at: str
) -> None:
    rows = classes(replace(TERM, at=at, **change))  # type: ignore[arg-type]

    for (segment, boundary), row in rows.items():
        applies = segment in steered and (boundary or at == "all")
        assert row == (0 if applies else -1)


def test_terms_for_the_same_tokens_are_one_sum() -> None:
    configuration = Configuration.of((TERM, Term("b", 1.0, layers=(1,)), Term("c", -2.0)))

    (only,) = configuration.sums
    assert only.addends == (("a", 0.5, None), ("b", 1.0, (1,)), ("c", -2.0, None))


def test_terms_for_different_tokens_need_a_row_for_each_mix() -> None:
    rows = classes(TERM, Term("b", 1.0, phase="answer"))

    assert rows["thinking", False] == rows["thinking", True] == 0
    assert rows["answer", False] == rows["answer", True] == 1


@pytest.mark.parametrize(
    "other",
    [
        Term("b", 0.5),
        Term("a", 0.6),
        Term("a", 0.5, layers=(0,)),
        Term("a", 0.5, phase="thinking"),
        Term("a", 0.5, at="boundary"),
        Term("a", 0.5, prompt=True),
    ],
)
def test_whatever_changes_what_is_steered_changes_the_digest(other: Term) -> None:
    assert Configuration.of((TERM,)).digest != Configuration.of((other,)).digest
    assert Configuration.of((TERM,)).digest == Configuration.of((Term("a", 0.5),)).digest


def test_only_steered_prompts_are_kept_apart_from_their_start() -> None:
    after = Configuration.of((TERM,)).message(17)
    whole = Configuration.of((replace(TERM, prompt=True),)).message(17)

    assert (after.first, whole.first) == (17, 0)


terms = st.builds(
    Term,
    vector=st.sampled_from("abc"),
    strength=st.sampled_from([-1.0, 0.0, 0.5]),
    layers=st.sampled_from([None, (0,), (1, 2)]),
    phase=st.sampled_from(["all", "thinking", "answer"]),
    at=st.sampled_from(["all", "boundary"]),
    prompt=st.booleans(),
)


@given(st.lists(terms, min_size=1, max_size=6))
def test_each_class_gets_exactly_the_terms_that_apply(terms: list[Term]) -> None:
    configuration = Configuration.of(tuple(terms))

    for (segment, boundary), row in zip(CLASSES, configuration.rows, strict=True):
        applied = [t for t in terms if t.applies(segment, boundary)]
        added = configuration.sums[row].addends if row >= 0 else ()
        assert list(added) == [(t.vector, t.strength, t.layers) for t in applied]
    assert len({item.digest for item in configuration.sums}) == len(configuration.sums)
