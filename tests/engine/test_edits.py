"""Edits in a real engine: live ones change the weights, chosen ones a request's tokens."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steersman.directions.edit import apply
from steersman.edits import file
from steersman.edits.checkpoint import Checkpoint
from steersman.steering.configuration import EditTerm, Term
from tests.engine.edits import QUESTIONS, WITH_EDITS, distributions, random_edit
from tests.engine.host import HIDDEN, LAYERS, REASONER, EngineProcess, Job, Result

CLOSE = 2e-4
"""Log-probabilities of the same request in batches of different sizes, in float32."""
ROUNDING = 0.02
"""Of what an edit changes: edited weights are rounded to bfloat16, edited outputs are not."""
HEADS = {0: (1, 4), 2: (0, 2, 5), 3: (3,)}
EDIT = random_edit(HEADS, weight=20.0)
OTHER = random_edit({0: (0,), 1: (2, 3)}, weight=20.0, seed=1)
OPTIONS = {"max_tokens": 16, "ignore_eos": True, "logprobs": 0}


def jobs(engine: EngineProcess) -> list[Job]:
    return [Job(engine.encode(question), options=OPTIONS) for question in QUESTIONS]


def sampled(result: Result) -> list[float]:
    return [step[token] for step, token in zip(result.logprobs, result.tokens, strict=True)]


def assert_same(results: list[Result], wanted: list[Result]) -> None:
    for result, other in zip(results, wanted, strict=True):
        assert result.tokens == other.tokens
        assert result.logprobs == other.logprobs


def assert_close(results: list[Result], wanted: list[Result]) -> None:
    for result, other in zip(results, wanted, strict=True):
        assert result.tokens == other.tokens
        np.testing.assert_allclose(sampled(result), sampled(other), atol=CLOSE)


@pytest.fixture(scope="module", params=["V1", "V2"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    with EngineProcess(runner=request.param, **WITH_EDITS) as engine:
        engine.offer(EDIT)
        engine.offer(OTHER)
        yield engine


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, edited offline."""
    target = tmp_path_factory.mktemp("edited") / "model"
    apply(EDIT, Checkpoint(REASONER, LAYERS, HIDDEN), target)
    return target


def test_a_live_edit_is_the_edited_model_bit_by_bit_and_reverts_so(
    engine: EngineProcess, directory: Path
) -> None:
    plain = engine.run(*jobs(engine))
    with EngineProcess(model=str(directory)) as offline:
        wanted = offline.run(*jobs(offline))

    engine.apply(EDIT)
    edited = engine.run(*jobs(engine))
    engine.apply(EDIT, OTHER)
    both = engine.run(*jobs(engine))
    engine.apply()
    reverted = engine.run(*jobs(engine))

    assert [result.tokens for result in edited] != [result.tokens for result in plain]
    assert [result.tokens for result in both] != [result.tokens for result in edited]
    assert_same(reverted, plain)
    if engine.facts[0]["runner"] == "V1":  # the offline engine's: the other rounds differently
        assert_same(edited, wanted)
    assert_close(edited, wanted)


def test_a_chosen_edit_does_what_a_live_one_does(engine: EngineProcess) -> None:
    plain = distributions(engine, None)
    engine.apply(EDIT)
    live = distributions(engine, None)
    engine.apply()

    chosen = distributions(engine, EditTerm(EDIT.digest, 1.0))

    changed = np.abs(live - plain).max()
    assert changed > 0.5
    assert np.abs(chosen - live).max() < ROUNDING * changed


def test_its_strength_multiplies_the_weight(engine: EngineProcess) -> None:
    engine.apply(random_edit(HEADS, weight=10.0))
    live = distributions(engine, None)
    engine.apply()

    half = distributions(engine, EditTerm(EDIT.digest, 0.5))
    whole = distributions(engine, EditTerm(EDIT.digest, 1.0))

    assert np.abs(half - live).max() < ROUNDING * np.abs(whole - live).max()


def test_batch_mates_are_left_alone(engine: EngineProcess) -> None:
    solo = [engine.run(job)[0] for job in jobs(engine)]

    mixed = engine.run(
        *jobs(engine), *(replace(job, edit=EditTerm(EDIT.digest, 1.0)) for job in jobs(engine))
    )

    assert_close(mixed[:2], solo)
    assert [result.tokens for result in mixed[2:]] != [result.tokens for result in solo]


def test_every_token_through_an_edit_is_counted(engine: EngineProcess) -> None:
    engine.load("v", {1: np.ones(HIDDEN, np.float32)})
    (job, other) = jobs(engine)
    edit = EditTerm(EDIT.digest, 1.0)

    edited, with_steering, steered, again = engine.run(
        replace(job, edit=edit),
        replace(job, edit=edit, terms=(Term("v", 1e-6),)),
        replace(other, terms=(Term("v", 1e-6),)),
        replace(job, edit=edit),
    )

    # The last token is sampled and not read.
    assert edited.edited == again.edited == len(job.prompt) + OPTIONS["max_tokens"] - 1
    assert edited.steered == 0
    assert with_steering.edited == edited.edited
    assert with_steering.steered == OPTIONS["max_tokens"] - 1
    assert (steered.edited, steered.steered) == (0, OPTIONS["max_tokens"] - 1)


def test_requests_share_no_cache_with_those_that_are_edited_otherwise(
    engine: EngineProcess,
) -> None:
    prompt = [*range(20, 120), *engine.encode("9-3+8*2=?")]
    plain = Job(prompt, options=OPTIONS)
    edited = replace(plain, edit=EditTerm(EDIT.digest, 1.0))
    (first,), (second,) = engine.run(edited), engine.run(plain)
    (third,), (fourth,) = engine.run(edited), engine.run(plain)
    (weaker,) = engine.run(replace(plain, edit=EditTerm(EDIT.digest, 0.5)))

    assert (first.cached, second.cached, weaker.cached) == (0, 0, 0)
    assert third.cached > 0
    assert fourth.cached > 0
    assert_close([third, fourth], [first, second])
    assert third.edited == first.edited


def test_prompts_of_any_length_share_what_they_begin_with(engine: EngineProcess) -> None:
    common = [*range(20, 90)]
    begun = Job([*common, 7], options={**OPTIONS, "max_tokens": 60})
    longer = Job([*common, *range(200, 240)], options=OPTIONS)
    edit = EditTerm(EDIT.digest, 1.0)
    (alone,) = engine.run(replace(longer, edit=edit))
    engine.forget()

    (first,) = engine.run(replace(begun, edit=edit))
    (second,) = engine.run(replace(longer, edit=edit))
    whole = [*begun.prompt, *first.tokens]
    (turn,) = engine.run(Job(whole, options=OPTIONS, edit=edit))
    (fork,) = engine.run(Job(whole, options=OPTIONS, edit=edit, origin=len(begun.prompt)))

    assert (first.cached, second.cached) == (0, 64)
    assert_close([second], [alone])
    # What was a response is a prompt now, and might be steered otherwise.
    assert turn.cached == 64
    assert fork.cached == 128


def test_an_edit_of_other_weights_is_refused_and_nothing_changes(engine: EngineProcess) -> None:
    plain = engine.run(*jobs(engine))
    engine.apply(EDIT)
    live = engine.run(*jobs(engine))
    other = replace(OTHER, projections={i: 2 * v for i, v in OTHER.projections.items()})
    for edits in ([other], [EDIT, EDIT]):
        (refusal,) = engine.rpc("prepare_edits", [file.write(edit) for edit in edits])
        assert refusal["message"]
    assert_same(engine.run(*jobs(engine)), live)
    engine.apply()
    assert_same(engine.run(*jobs(engine)), plain)


@pytest.mark.parametrize("step", ["prepare", "swap"])
@pytest.mark.parametrize("live", [False, True], ids=["of none", "of others"])
def test_without_memory_at_one_tensor_all_weights_are_as_before(
    engine: EngineProcess, step: str, live: bool
) -> None:
    """The edit has three tensors, of which the second fails: one is done by then."""
    plain = engine.run(*jobs(engine))
    if live:
        engine.apply(OTHER)
    before = engine.run(*jobs(engine))

    engine.fail_once(2, step)
    contents = [file.write(edit) for edit in ((OTHER, EDIT) if live else (EDIT,))]
    if step == "swap":
        engine.rpc("prepare_edits", contents)
    failing = ("prepare_edits", contents) if step == "prepare" else ("commit_edits",)
    with pytest.raises(RuntimeError, match="OutOfMemoryError: no room for layer 2"):
        engine.rpc(*failing)
    engine.forget()
    by_itself = engine.run(*jobs(engine))
    engine.rpc("undo_edits")  # as the front end asks of every rank
    engine.forget()
    after = engine.run(*jobs(engine))

    assert_same(by_itself, before)
    assert_same(after, before)
    engine.apply(EDIT, OTHER)
    assert [result.tokens for result in engine.run(*jobs(engine))] != [r.tokens for r in before]
    engine.apply()
    assert_same(engine.run(*jobs(engine)), plain)


def test_an_edit_gives_its_row_back(engine: EngineProcess) -> None:
    third = random_edit({1: (0,)}, seed=3)
    with pytest.raises(RuntimeError, match="all 2 rows for edits are taken"):
        engine.offer(third)
    engine.rpc("unload_edit", OTHER.digest)
    engine.offer(third)
    (result,) = engine.run(replace(jobs(engine)[0], edit=EditTerm(third.digest, 1.0)))
    assert result.edited
    engine.rpc("unload_edit", third.digest)
    engine.offer(OTHER)
