"""Ends of segments: where they are, and what follows them."""

import json
from dataclasses import replace
from random import Random

import pytest
from evals.reasoner.traces import write
from hypothesis import example, given
from hypothesis import strategies as st

from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample
from steersman.directions.segments import RECHECK, Next, contrast, ends, recheck_pattern
from steersman.puzzles.problems import KINDS, TRAINED, puzzles
from steersman.trajectory.boundaries import ends_segment
from tests.unit.directions.made_up import trace

# Words with and without the spaces before them: some tokenizers lose them.
PIECES = (
    *("\n", "\n\n", ".", ".\n", "?", " ", "", "…", "3", "+", "=7", "**", "- ", "x", "\nx"),
    *("Wait", "wait", " Wait", ",", " let", "Let", " me", "me", " check", "check", "Hmm", " so"),
)
TEXTS = ("", *PIECES)
PATTERN = recheck_pattern(RECHECK)


def found(*pieces: str) -> list[tuple[int, Next]]:
    """Ends by the index of their piece."""
    sample = trace(TEXTS, *pieces)
    assert sample.thinking is not None
    begin = sample.thinking.start
    return [(end.position - begin, end.next) for end in ends(sample, TEXTS, PATTERN)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ("3|+|3|\n|=7|\n", {3: "work", 5: "closing"}),
        ("3|\n|Wait|,|3|\n|x", {1: "recheck", 5: "work"}),
        ("\n|3|\n|=7|\n", {2: "work", 4: "closing"}),
        ("3|\n|\n|Wait|\n\n", {1: "recheck", 2: "recheck", 4: "closing"}),
        ("3|\n|\n| |\n", {1: "closing", 2: "closing", 4: "closing"}),
        ("3|.\n|**|Wait|**|\n|x|.", {1: "recheck", 5: "work"}),
        ("3|.| Wait|.\n|x", {3: "work"}),
        ("3|\n|Let| me| check|\n", {1: "recheck", 5: "closing"}),
        ("3|\n|Let|me|check|\n", {1: "recheck", 5: "closing"}),
        ("3|\n|Let| me|\n", {1: "work", 4: "closing"}),
        ("3|\n| so| Wait|\n", {1: "work", 4: "closing"}),
        ("3|\nx|\n|x", {1: "work", 2: "work"}),
        # Without a newline between two pieces of text, sentences end segments.
        ("3|.| Wait|?| so|=7|.", {1: "recheck", 3: "work", 6: "closing"}),
        ("\n|3|.|Hmm|…|3|.|\n", {2: "recheck", 4: "work", 6: "closing", 7: "closing"}),
        ("\n|3|\n", {2: "closing"}),
        (".|3", {0: "work"}),
        # Without either there is no segment's end.
        ("3|+|3|=7", {}),
        ("\n", {}),
        (" |\n\n", {}),
    ],
)
def test_what_follows_the_end_of_a_segment(pieces: str, expected: dict[int, str]) -> None:
    assert dict(found(*pieces.split("|"))) == expected


def slowly(pieces: list[str]) -> list[tuple[int, str]]:
    """The ends, each worked out by itself."""

    def around(index: int) -> tuple[str, str]:
        head, newline, tail = pieces[index].rpartition("\n")
        if not newline:
            head, tail = tail, ""
        return "".join(pieces[:index]) + head, tail + "".join(pieces[index + 1 :])

    def follows(rest: str) -> str:
        if not rest.strip():
            return "closing"
        begins = "".join(rest.split()).lstrip("*-+=.,?…").casefold()
        return "recheck" if begins.startswith(MARKERS) else "work"

    lines = [index for index, piece in enumerate(pieces) if "\n" in piece]
    if not any(before.strip() and after.strip() for before, after in map(around, lines)):
        lines = [index for index, piece in enumerate(pieces) if ends_segment(piece)]
    cuts = [(index, *around(index)) for index in lines]
    return [(index, follows(after)) for index, before, after in cuts if before.strip()]


MARKERS = tuple("".join(marker.split()).casefold() for marker in RECHECK)


@given(st.lists(st.sampled_from(PIECES), max_size=12))
@example(["\n", "3", ".", "Wait", "."])
def test_every_end_is_classified_once(pieces: list[str]) -> None:
    assert found(*pieces) == slowly(pieces)
    assert all(ends_segment(pieces[index]) for index, _ in found(*pieces))


def test_without_a_closed_thinking_phase_there_are_no_ends() -> None:
    response = tuple(TEXTS.index(piece) for piece in ("3", "\n", "Wait", "\n"))
    assert ends(Sample("p", (), response, True, None), TEXTS, PATTERN) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_re_checks_of_the_reasoner_are_found(kind: str) -> None:
    characters = [chr(code) for code in range(128)]
    rechecks = 0
    for grade in TRAINED:
        for number, puzzle in zip(range(50), puzzles(kind, grade, "train", 5), strict=False):
            lines = write(puzzle, Random(number))
            sample = trace(characters, *"".join(f"{line}\n" for line in ("", *lines)))
            follow = [end.next for end in ends(sample, characters, PATTERN)]
            expected = ["recheck" if line[:4] in ("Wait", "Hmm,") else "work" for line in lines]
            assert follow == [*expected[1:], "closing"]
            rechecks += follow.count("recheck")
    assert rechecks > 20


@pytest.mark.parametrize(
    "text",
    [
        "Wait, that is wrong.",
        "  wait",
        "**Wait**",
        "- Hmm",
        "(Actually,",
        "Alternatively we could",
        "But wait, is it?",
        "Double-checking",
        "Let me re-examine",
        "Let me reconsider",
        "LET ME CHECK",
        "Let me  check",
        "Let’s check",
        "Let's verify",
        "— No, wait",
    ],
)
def test_what_begins_a_re_check(text: str) -> None:
    assert PATTERN.match(text)


@pytest.mark.parametrize(
    "text", ["", "So", "Let me compute", "3 wait", "I wait", "But 7", "To begin", "Then wait."]
)
def test_what_does_not(text: str) -> None:
    assert not PATTERN.match(text)


def test_markers_are_no_expressions() -> None:
    pattern = recheck_pattern(["a.b", "(x)"])
    assert pattern.match("A.B")
    assert not pattern.match("axb")


def both(count: int = 1) -> list[Sample]:
    return [trace(TEXTS, "3", "\n", "x", "\n", "Wait", "\n", "=7", "\n")] * count


def test_only_the_ends_are_averaged_on_the_side_of_what_follows() -> None:
    plain = trace(TEXTS, "3", "\n", "x")
    made = contrast([*both(), plain], TEXTS, least=1)
    # In prompt and response, two and one token before thinking.
    assert [one.positions for one in made.plus] == [(4, 8, 10), (4,)]
    assert [one.positions for one in made.minus] == [(6,)]
    assert made.facts["ends"] == {"work": 3, "recheck": 1, "closing": 1}
    assert (made.facts["closed"], made.facts["closing_only"]) == (2, False)
    assert made.facts["recheck"] == list(RECHECK)
    assert json.loads(json.dumps(made.facts)) == made.facts


def test_closing_only() -> None:
    made = contrast([*both(), trace(TEXTS, "3", "\n", "x")], TEXTS, closing_only=True, least=1)
    assert [one.positions for one in made.plus] == [(10,)]
    assert [one.positions for one in made.minus] == [(6,)]


def test_within_problems() -> None:
    checked, straight = (
        trace(TEXTS, "3", "\n", "Wait", "3", "\n"),
        trace(TEXTS, "3", "\n", "3", "\n"),
    )
    other = replace(straight, problem="q")

    made = contrast([checked, straight, other], TEXTS, within_problems=True, least=1)

    assert [one.sample for one in made.plus] == [checked, straight]
    assert [one.sample for one in made.minus] == [checked]
    assert made.facts["within_problems"] is True
    error = refusal([checked, straight, other], within_problems=True, least=2)
    assert error.message.startswith("of 3 closed traces")
    many = [replace(one, problem=str(i)) for i, one in enumerate([checked] * 2 + [straight] * 2)]
    assert contrast(many, TEXTS, within_problems=True, least=2).facts["minus"]["problems"] == 2
    apart = [replace(checked, problem=str(i)) for i in range(2)]
    assert refusal(apart[:1] * 2, within_problems=True, least=2).field == "within_problems"


def test_other_markers() -> None:
    made = contrast(both(), TEXTS, recheck=["x"], least=1)
    assert [one.positions for one in made.plus] == [(6, 8, 10)]
    assert [one.positions for one in made.minus] == [(4,)]
    assert made.facts["recheck"] == ["x"]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8), min_size=1, max_size=6))
def test_positions_are_inside_thinking_and_on_one_side(pieces: list[list[str]]) -> None:
    given_samples = [trace(TEXTS, *one) for one in pieces]
    try:
        made = contrast(given_samples, TEXTS, least=1)
    except DirectionError:
        return  # No such ends on a side.
    for one in (*made.plus, *made.minus):
        thinking = one.sample.thinking
        assert thinking is not None
        begin = len(one.sample.prompt)
        assert all(position - begin in thinking for position in one.positions)
        assert list(one.positions) == sorted(set(one.positions))
    of_plus = {(id(one.sample), position) for one in made.plus for position in one.positions}
    of_minus = {(id(one.sample), position) for one in made.minus for position in one.positions}
    assert not of_plus & of_minus


def refusal(given_samples: list[Sample], **options: object) -> DirectionError:
    with pytest.raises(DirectionError) as caught:
        contrast(given_samples, TEXTS, **options)  # type: ignore[arg-type]
    return caught.value


def test_too_few_re_checks() -> None:
    error = refusal([*both(3), *[trace(TEXTS, "3", "\n", "x")] * 9])
    assert error.field == "recheck"
    assert error.message == (
        "of 12 closed traces 12 have a segment that ends before work or the end of thinking, 3 one "
        "that ends before a re-check, 10 of each are needed: take more samples, or name what this "
        "model's re-checks begin with"
    )
    assert len(contrast(both(10), TEXTS).minus) == 10


def test_too_few_ends_before_the_end_of_thinking() -> None:
    error = refusal([trace(TEXTS, "3", "\n", "Wait", "\n", "x")] * 10, closing_only=True)
    assert error.field == "closing_only"
    assert "0 have a segment that ends before the end of thinking" in error.message


def test_too_few_ends_before_work() -> None:
    error = refusal([trace(TEXTS, "3", "\n", "Wait")] * 10)
    assert error.field == "samples"
    assert error.message.endswith("take more samples")


@pytest.mark.parametrize("recheck", [[], [""], ["Wait", "  "]])
def test_markers_must_say_something(recheck: list[str]) -> None:
    assert refusal(both(), recheck=recheck, least=1).field == "recheck"


def test_another_models_samples() -> None:
    sample = Sample("p", (5,), (1, len(TEXTS), 2), True, range(1, 2))
    error = refusal([sample, *both()], least=1)
    assert error.field == "samples"
    assert f"token {len(TEXTS)} is not in the vocabulary of {len(TEXTS)}" in error.message


def test_other_refusals() -> None:
    assert refusal(both(), least=0).field == "least"
    assert refusal([Sample("p", (5,), (7,), True, None)]).field == "samples"
