"""Steering in a real engine: what it does, to whom, and to whom it does not."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from steersman.steering.configuration import Term
from tests.engine.conftest import Started
from tests.engine.host import HIDDEN, LAYERS, REASONER, EngineProcess, Job, Result

QUESTIONS = ("6+9*3-8=?", "5*7-4+1=?", "9-3+8*2=?", "4+4*4-4=?")
CLOSE = 2e-4
"""Log-probabilities of the same request in batches of different sizes, in float32."""


@pytest.fixture(scope="module", params=["V1", "V2"])
def engine(request: pytest.FixtureRequest, started: Started) -> EngineProcess:
    engine = started(request.param)
    assert [rank["runner"] for rank in engine.facts] == [request.param]
    rng = np.random.default_rng(0)
    for name in "abc":
        vectors = {i: rng.normal(size=HIDDEN).astype(np.float32) for i in range(LAYERS)}
        engine.load(name, vectors)
    return engine


@pytest.fixture
def prompt(engine: EngineProcess) -> list[int]:
    return engine.encode(QUESTIONS[0])


def every_logprob(result: Result) -> np.ndarray:
    """[generated tokens, vocabulary]."""
    return np.array([[step[i] for i in sorted(step)] for step in result.logprobs])


def teacher_forced(job: Job, continuation: tuple[int, ...]) -> Job:
    """The same request with a response already there: its last token is steered as generated."""
    return replace(
        job,
        prompt=[*job.prompt, *continuation],
        origin=len(job.prompt),
        options={"max_tokens": 1, "logprobs": -1},
    )


def test_a_direction_between_two_tokens_moves_their_log_odds_with_strength(
    engine: EngineProcess, prompt: list[int]
) -> None:
    head = load_file(REASONER / "model.safetensors")["model.embed_tokens.weight"].float().numpy()
    one, other = engine.token("3"), engine.token("7")
    engine.load("odds", {LAYERS - 1: head[one] - head[other]})
    strengths = (-40.0, -20.0, -10.0, 0.0, 10.0, 20.0, 40.0)
    (plain,) = engine.run(Job(prompt, options={"max_tokens": 4}))
    steered = [Job(prompt, (Term("odds", strength),)) for strength in strengths]
    bystanders = [Job(prompt, (Term("a", 0.5),)), Job(prompt)]
    jobs = [teacher_forced(job, plain.tokens) for job in (*steered, *bystanders)]

    results = engine.run(*jobs)

    odds = [r.logprobs[0][one] - r.logprobs[0][other] for r in results[: len(strengths)]]
    assert all(np.diff(odds) > 0.5), odds
    unsteered = results[-1].logprobs[0]
    assert odds[strengths.index(0.0)] == unsteered[one] - unsteered[other]


def test_batch_mates_match_their_solo_runs(engine: EngineProcess, prompt: list[int]) -> None:
    options = {"max_tokens": 12, "logprobs": -1, "ignore_eos": True}
    jobs = [
        Job(prompt, options=options),
        Job(prompt, (Term("a", 0.4),), options),
        Job(engine.encode(QUESTIONS[1]), (Term("b", -0.4, layers=(1, 2)),), options),
        Job(engine.encode(QUESTIONS[2]), (Term("a", 0.4), Term("c", 0.2)), options),
        Job(engine.encode(QUESTIONS[3]), options=options),
    ]
    solo = [engine.run(job)[0] for job in jobs]

    together = engine.run(*jobs)

    for alone, mixed in zip(solo, together, strict=True):
        assert mixed.tokens == alone.tokens
        np.testing.assert_allclose(every_logprob(mixed), every_logprob(alone), atol=CLOSE)
    assert np.abs(every_logprob(solo[0])[1] - every_logprob(solo[1])[1]).max() > 50 * CLOSE


def test_the_same_request_twice_gives_the_same_logits(
    engine: EngineProcess, prompt: list[int]
) -> None:
    job = Job(prompt, (Term("a", 0.4),), {"max_tokens": 12, "logprobs": -1, "ignore_eos": True})

    (first,), (second,) = engine.run(job), engine.run(job)

    np.testing.assert_allclose(every_logprob(first), every_logprob(second), atol=CLOSE)
    assert first.tokens == second.tokens


def test_several_vectors_are_their_sum(engine: EngineProcess, prompt: list[int]) -> None:
    rng = np.random.default_rng(7)
    one, other = rng.normal(size=(2, LAYERS, HIDDEN)).astype(np.float32)
    engine.load("one", dict(enumerate(one)))
    engine.load("other", dict(enumerate(other)))
    engine.load("sum", dict(enumerate(0.3 * one - 0.2 * other)))
    options = {"max_tokens": 8, "logprobs": -1, "ignore_eos": True}

    several, single = engine.run(
        Job(prompt, (Term("one", 0.3), Term("other", -0.2)), options),
        Job(prompt, (Term("sum", 1.0),), options),
    )

    np.testing.assert_allclose(every_logprob(several), every_logprob(single), atol=CLOSE)


def test_layers_outside_the_subset_are_left_alone(engine: EngineProcess, prompt: list[int]) -> None:
    values = np.random.default_rng(3).normal(size=(LAYERS, HIDDEN)).astype(np.float32)
    engine.load("all", dict(enumerate(values)))
    engine.load("two", {2: values[2]})
    options = {"max_tokens": 8, "logprobs": -1, "ignore_eos": True}

    subset, only = engine.run(
        Job(prompt, (Term("all", 0.5, layers=(2,)),), options),
        Job(prompt, (Term("two", 0.5),), options),
    )

    np.testing.assert_array_equal(every_logprob(subset), every_logprob(only))


@pytest.mark.parametrize("phase", ["all", "thinking", "answer"])
@pytest.mark.parametrize("at", ["all", "boundary"])
@pytest.mark.parametrize("with_prompt", [False, True])
def test_the_engine_counts_the_tokens_that_are_steered(
    engine: EngineProcess, prompt: list[int], phase: str, at: str, with_prompt: bool
) -> None:
    # So weak that the response stays the same.
    term = Term("a", 1e-6, phase=phase, at=at, prompt=with_prompt)  # type: ignore[arg-type]

    (result,) = engine.run(Job(prompt, (term,)))

    assert result.counts == expected_counts(engine, term, prompt, result.tokens[:-1])


def expected_counts(
    engine: EngineProcess, term: Term, prompt: list[int], response: tuple[int, ...]
) -> dict[tuple[str, bool], int]:
    """The same, from the tokens: the last one of a response is never fed to the model."""
    from steersman.trajectory.boundaries import ends_segment

    texts = engine.texts()
    start, end = engine.token("<think>"), engine.token("</think>")
    segment = "answer"
    segments = ["prompt"] * len(prompt)
    for token in response:
        segment = {start: "thinking", end: "answer"}.get(token, segment)
        segments.append(segment)
    counts = dict.fromkeys(
        [(s, b) for s in ("prompt", "thinking", "answer") for b in (False, True)], 0
    )
    for token, segment in zip([*prompt, *response], segments, strict=True):
        boundary = ends_segment(texts[token])
        counts[segment, boundary] += term.applies(segment, boundary)
    return counts


def test_the_phases_steer_their_own_tokens(engine: EngineProcess, prompt: list[int]) -> None:
    (plain,) = engine.run(Job(prompt))
    close = plain.tokens.index(engine.token("</think>"))
    thinking, answer = plain.tokens[:close], plain.tokens[: close + 2]

    def shift(phase: str, response: tuple[int, ...]) -> float:
        term = Term("a", 0.5, phase=phase)  # type: ignore[arg-type]
        job = Job(prompt, (term,))
        steered, unsteered = engine.run(
            teacher_forced(job, response), teacher_forced(replace(job, terms=()), response)
        )
        return float(np.abs(every_logprob(steered) - every_logprob(unsteered)).max())

    assert shift("thinking", thinking) > 50 * CLOSE
    assert shift("answer", thinking) == 0
    assert shift("answer", answer) > 50 * CLOSE


def test_a_clean_prompt_is_shared_and_steered_blocks_are_not(engine: EngineProcess) -> None:
    prompt = [*range(20, 60), *range(20, 60), *engine.encode(QUESTIONS[0])]
    term = Term("a", 0.3)
    options = {"max_tokens": 70, "ignore_eos": True}
    blocks = len(prompt) // 32 * 32
    (cold,) = engine.run(Job(prompt, options={"max_tokens": 1}))
    (steered,) = engine.run(Job(prompt, (term,), options))
    whole = [*prompt, *steered.tokens]
    one = {"max_tokens": 1}

    same = engine.run(Job(whole, (term,), one, origin=len(prompt)))[0]
    next_turn = engine.run(Job(whole, (term,), one))[0]
    unsteered = engine.run(Job(whole, (), one))[0]
    other = engine.run(Job(whole, (Term("b", 0.3),), one, origin=len(prompt)))[0]

    assert cold.cached == 0
    assert steered.cached == blocks
    assert same.cached > blocks
    assert next_turn.cached == blocks
    # It computed the rest anew, and its blocks are clean: the next one may use them all.
    assert unsteered.cached > blocks
    assert other.cached == blocks


def test_a_steered_request_leaves_no_trace_in_the_cache(engine: EngineProcess) -> None:
    prompt = [*range(70, 110), *range(70, 110), *engine.encode(QUESTIONS[1])]
    options = {"max_tokens": 40, "ignore_eos": True, "logprobs": -1}
    (clean,) = engine.run(Job([*prompt, 5], options=options))
    fresh = [*prompt, 6]
    for prompt_too in (False, True):
        engine.run(Job(fresh, (Term("a", 0.5, prompt=prompt_too),), options))

    (after,) = engine.run(Job(fresh, options=options))
    (again,) = engine.run(Job([*prompt, 5], options=options))

    reference = engine.run(Job(fresh, (Term("a", 0.0),), options))[0]
    np.testing.assert_allclose(every_logprob(after), every_logprob(reference), atol=CLOSE)
    np.testing.assert_allclose(every_logprob(again), every_logprob(clean), atol=CLOSE)


def test_every_choice_of_a_request_is_steered(engine: EngineProcess, prompt: list[int]) -> None:
    options = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": 10, "ignore_eos": True}
    job = Job(prompt, (Term("a", 100.0),), options)

    steered, plain = engine.run(job, replace(job, terms=()))

    assert len(steered.token_ids) == 3
    for one, other in zip(steered.token_ids, plain.token_ids, strict=True):
        assert one[0] == other[0]  # the last token of the prompt is not steered
        assert one[1:] != other[1:]


def test_rows_are_reused_by_later_configurations(engine: EngineProcess, prompt: list[int]) -> None:
    options = {"max_tokens": 4, "logprobs": -1, "ignore_eos": True}
    strengths = [round(0.01 * i, 2) for i in range(1, 25)]

    def run(name: str, begin: int) -> list[Result]:
        several = strengths[begin : begin + 4]
        return engine.run(*(Job(prompt, (Term(name, s),), options) for s in several))

    first = run("a", 0)
    for begin in range(0, len(strengths), 4):
        run("b", begin)
    again = run("a", 0)

    for one, other in zip(first, again, strict=True):
        np.testing.assert_allclose(every_logprob(one), every_logprob(other), atol=CLOSE)
