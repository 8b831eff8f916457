"""Trajectories on a scripted engine client: forks spliced, waiting, aborted, refused."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from steersman.controls.monitor import MonitorPart
from steersman.frontend.carrier import Carrier
from steersman.frontend.outputs import replay
from steersman.frontend.reports import Reports
from steersman.frontend.source import Call, EngineSource, branch_seed
from steersman.trajectory.trajectory import Prefix, Start, Trajectory
from tests.unit.spans import Kept

pytestmark = pytest.mark.anyio

ALPHABET = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
PROMPT = [ALPHABET["?"]] * 3


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, so that characters of several bytes are cut by any seam."""
    model = Tokenizer(models.BPE(vocab=ALPHABET, merges=[]))
    model.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model)


TOKENIZER = tokenizer()


class Engine:
    """Goes on with one response, from wherever the prompt has come to.

    Attributes:
        tokens: The response.
        step: Tokens of an output.
        requests: Prompts and parameters, as they came.

    """

    def __init__(self, tokens: list[int], step: int = 1) -> None:
        self.tokens = tokens
        self.step = step
        self.requests: list[tuple[list[int], SamplingParams]] = []
        self.aborted: list[list[str]] = []
        self.full = False
        self.running = 0
        self.most = 0

    def get_tokenizer(self) -> PreTrainedTokenizerFast:
        return TOKENIZER

    def check_admission(self, n: int, request_id: str) -> None:
        if self.full:
            raise ConnectionError("the queue is full")

    async def abort(self, request_ids: list[str]) -> None:
        self.aborted.append(request_ids)

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        token_ids = prompt["prompt_token_ids"]
        self.requests.append((token_ids, params))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            begun = len(token_ids) - len(PROMPT)
            most = len(self.tokens) if params.max_tokens is None else begun + params.max_tokens
            rest, reason = self.tokens[begun:most], "length"
            for end, token in enumerate(rest):
                if token in (params.stop_token_ids or ()):
                    rest, reason = rest[: end + 1], "stop"
                    break
            for at in range(0, len(rest), self.step):
                await asyncio.sleep(0)
                new = rest[at : at + self.step]
                logprobs = [{token: Logprob(-1.0, 1, "x")} for token in new]
                aborted = any(request_id in ids for ids in self.aborted)
                completion = CompletionOutput(0, "unused", new, None, logprobs)
                ended = at + self.step >= len(rest)
                completion.finish_reason = "abort" if aborted else reason if ended else None
                yield RequestOutput(request_id, None, token_ids, None, [completion], ended)
                if aborted:
                    return
        finally:
            self.running -= 1


def source(engine: Engine, params: SamplingParams | None = None, room: int = 64) -> EngineSource:
    client: Any = engine
    prompt = {"type": "token", "prompt_token_ids": PROMPT, "prompt": "???"}
    call = Call(prompt, params or SamplingParams(max_tokens=None), "r", {})
    return EngineSource(client, call, Carrier(longest=1000), asyncio.Semaphore(room))


async def run(source: EngineSource, start: Start[RequestOutput]) -> Trajectory[RequestOutput]:
    (trajectory,) = source.start_all([start])
    await trajectory.run()
    return trajectory


async def forked(
    engine: Engine, cut: int, params: SamplingParams | None = None
) -> Trajectory[RequestOutput]:
    """A response that was begun by one engine request and is gone on with by another."""
    own = source(engine, params)
    parent = await run(own, Start(0))
    return await run(own, Start(1, prefix=Prefix(parent, cut)))


TOKENS = {"prompt_token_ids": PROMPT}
TEXTS = st.text(st.sampled_from("ab\n. é→😀"), min_size=2, max_size=12)


@given(TEXTS, st.integers(1, 40), st.integers(1, 3))
def test_a_fork_reads_as_the_whole_response(text: str, cut: int, step: int) -> None:
    tokens = TOKENIZER.encode(text)
    engine = Engine(tokens, step)
    cut = min(cut, len(tokens) - 1)

    fork = asyncio.run(forked(engine, cut))

    assert fork.token_ids == tokens
    assert fork.text == text
    assert fork.sampled_tokens == len(tokens) - cut
    assert engine.requests[-1][0] == PROMPT + tokens[:cut]
    (answer,) = replay([fork], RequestOutputKind.FINAL_ONLY, "theirs")
    assert (answer.prompt_token_ids, answer.outputs[0].text) == (PROMPT, text)
    assert [[*entry] for entry in answer.outputs[0].logprobs or ()] == [[t] for t in tokens]


@given(TEXTS, st.integers(1, 40), st.text(st.sampled_from("ab. é"), min_size=1, max_size=3))
def test_stop_strings_are_found_across_the_seam(text: str, cut: int, stop: str) -> None:
    tokens = TOKENIZER.encode(text)
    before = TOKENIZER.encode(text.partition(stop)[0])
    assume(before)
    cut = min(cut, len(before), len(tokens) - 1)
    parameters = SamplingParams(max_tokens=None, stop=[stop])

    trajectory = asyncio.run(forked(Engine(tokens), cut, parameters))

    assert trajectory.text == text.partition(stop)[0]
    assert trajectory.finish_reason == ("stop" if stop in text else "length")
    kept = text.partition(stop)[0] + stop if stop in text else text
    assert trajectory.token_ids == TOKENIZER.encode(kept)


@pytest.mark.parametrize("cut", [1, 4])
async def test_a_fork_ends_at_a_token_that_the_request_names(cut: int) -> None:
    """The token is one of the response's, and its text is not, as in a response without a seam."""
    parameters = SamplingParams(max_tokens=None, stop_token_ids=[ALPHABET["e"]])
    fork = await forked(Engine(TOKENIZER.encode("abcdefgh")), cut, parameters)
    assert (fork.text, fork.finish_reason) == ("abcd", "stop")
    assert fork.token_ids == TOKENIZER.encode("abcde")


@pytest.mark.parametrize("prefix", [0, 1, 4])
async def test_what_a_step_has_behind_a_stop_string_is_cut(prefix: int) -> None:
    engine: Any = Engine(TOKENIZER.encode("abcdefgh"), step=3)
    carrier = Carrier(Reports(), (MonitorPart(tokens=False, markers=None),), longest=1000)
    call = Call({**TOKENS}, SamplingParams(max_tokens=None, stop=["ef"], logprobs=0), "r", {})
    own = EngineSource(engine, call, carrier)
    parent = await run(own, Start(0))
    fork = await run(own, Start(1, prefix=Prefix(parent, prefix)) if prefix else Start(1))
    if prefix:
        assert (fork.text, fork.tokens) == ("abcd", 6)
    assert fork.track is not None
    assert fork.track.token_ids == fork.token_ids
    (answer,) = replay([fork], RequestOutputKind.FINAL_ONLY, "r")
    assert len(answer.outputs[0].logprobs or ()) == len(answer.outputs[0].token_ids) == fork.tokens


async def test_a_suffix_can_complete_a_stop_string() -> None:
    engine = Engine(TOKENIZER.encode("abcdefgh"))
    own = source(engine, SamplingParams(max_tokens=None, stop=["cd"]))
    start = Start(1, prefix=Prefix(await run(own, Start(0)), 3), suffix=(ALPHABET["d"],))
    fork = await run(own, start)
    assert (fork.text, fork.tokens, fork.finish_reason) == ("ab", 4, "stop")
    assert fork.pieces[-1].output.outputs[0].stop_reason == "cd"
    assert engine.running == 0


async def test_a_trajectory_in_the_place_of_one_that_is_gone_is_another() -> None:
    own = source(Engine(TOKENIZER.encode("ab")))
    for _ in range(20):  # often at the very same address
        (gone,) = own.start_all([Start(0)])
        await own.stop([gone])
        del gone
        gc.collect()
        assert not (await run(own, Start(0))).aborted


async def test_a_fork_has_what_is_left_of_the_limits_and_no_stop_strings_of_its_own() -> None:
    engine = Engine(TOKENIZER.encode("abcdefgh"))
    parameters = SamplingParams(
        max_tokens=7,
        min_tokens=5,
        stop=["z"],
        seed=4,
        prompt_logprobs=1,
        extra_args={"kv_transfer_params": {"remote_block_ids": [1]}, "mine": 2},
    )
    fork = await forked(engine, 3, parameters)
    _, passed = engine.requests[-1]
    assert (passed.max_tokens, passed.min_tokens, passed.stop) == (4, 2, [])
    assert (passed.seed, fork.seed, passed.prompt_logprobs) == (5, 5, None)
    assert passed.extra_args == {"mine": 2}
    assert fork.text == "abcdefg"
    assert (parameters.max_tokens, parameters.stop) == (7, ["z"])


async def test_a_bare_fork_holds_its_own_tokens_and_nothing_of_the_request() -> None:
    engine = Engine(TOKENIZER.encode("thinking</t>42"))
    own = source(
        engine, SamplingParams(max_tokens=50, presence_penalty=1.0, stop=["4"], logprobs=1)
    )
    parent = await run(own, Start(0))
    start = Start(
        0,
        prefix=Prefix(parent, 8),
        suffix=tuple(TOKENIZER.encode("</t>")),
        temperature=0.0,
        max_tokens=1,
        bare=True,
    )
    fork = await run(own, start)
    token_ids, passed = engine.requests[-1]
    assert token_ids == PROMPT + TOKENIZER.encode("thinking</t>")
    assert (passed.temperature, passed.max_tokens) == (0.0, 1)
    assert (passed.presence_penalty, passed.stop, passed.logprobs) == (0.0, [], None)
    assert (fork.token_ids, fork.sampled_tokens) == (TOKENIZER.encode("4"), 1)
    assert parent.forks == [fork]


@pytest.mark.parametrize(
    "lost",
    [
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"bad_words": ["x"]},
        {"structured_outputs": StructuredOutputsParams(choice=["a"])},
        {"thinking_token_budget": 5},
        {"thinking_token_budget": 0},
    ],
)
async def test_a_fork_that_would_lose_state_is_refused(lost: dict[str, Any]) -> None:
    own = source(Engine(TOKENIZER.encode("abc")), SamplingParams(max_tokens=None, **lost))
    parent = await run(own, Start(0))
    with pytest.raises(ValueError, match=next(iter(lost))):
        own.start_all([Start(1, prefix=Prefix(parent, 2))])


async def test_a_fork_of_a_response_that_has_all_its_tokens_is_refused() -> None:
    own = source(Engine(TOKENIZER.encode("abcdef")), SamplingParams(max_tokens=3))
    parent = await run(own, Start(0))
    with pytest.raises(ValueError, match="max_tokens"):
        own.start_all([Start(1, prefix=Prefix(parent, 3))])
    assert (await run(own, Start(1, prefix=Prefix(parent, 2)))).text == "abc"


@pytest.mark.parametrize("prompt", [{"prompt_embeds": 1}, {"prompt_embeds": 1, **TOKENS}, "???"])
async def test_a_prompt_without_tokens_cannot_be_gone_on_with(prompt: Any) -> None:
    engine: Any = Engine(TOKENIZER.encode("abc"))
    own = EngineSource(engine, Call(prompt, SamplingParams(), "r", {}), Carrier(longest=1000))
    with pytest.raises(ValueError, match="embeddings"):
        own.start_all([Start(1, suffix=(1,))])


async def test_forks_are_admitted_together_or_not_at_all() -> None:
    engine = Engine(TOKENIZER.encode("abc"))
    own = source(engine)
    parent = await run(own, Start(0))
    engine.full = True
    fork = Start(1, prefix=Prefix(parent, 2))
    with pytest.raises(ConnectionError, match="full"):
        own.start_all([fork, fork])
    assert len(engine.requests) == 1
    assert parent.forks == []


async def test_over_the_room_trajectories_wait_and_end_the_same() -> None:
    engine = Engine(TOKENIZER.encode("abcdef"))
    trajectories = source(engine, room=2).start_all([Start(branch) for branch in range(5)])
    await asyncio.gather(*(one.run() for one in trajectories))
    assert engine.most == 2
    assert {one.text for one in trajectories} == {"unused" * 6}


async def test_those_that_run_are_aborted_in_one_call_and_one_that_waits_never_begins() -> None:
    engine = Engine(TOKENIZER.encode("abcdef" * 9))
    own = source(engine, room=2)
    trajectories = own.start_all([Start(branch) for branch in range(3)])
    tasks = [asyncio.create_task(one.run()) for one in trajectories]
    while not all(one.tokens for one in trajectories[:2]):
        await asyncio.sleep(0)
    await own.stop(trajectories)
    await asyncio.gather(*tasks)
    assert [one.finish_reason for one in trajectories] == ["abort"] * 3
    assert [len(ids) for ids in engine.aborted] == [2]
    assert len(engine.requests) == 2
    assert trajectories[2].tokens == 0


async def test_one_that_begins_while_it_is_stopped_is_aborted_with_its_first_token() -> None:
    engine = Engine(TOKENIZER.encode("abcdef" * 9))
    own = source(engine)
    (trajectory,) = own.start_all([Start(0)])
    task = asyncio.create_task(trajectory.run())
    await asyncio.sleep(0)
    await own.stop([trajectory])
    engine.aborted.clear()  # the engine did not know it yet
    await task
    assert trajectory.aborted
    assert trajectory.tokens < 9


def test_a_branch_has_the_seed_of_vllms_own_choice() -> None:
    assert branch_seed(7, 3) == 10
    assert branch_seed(None, 3) is None
    assert branch_seed(-1, 1) == 0
    assert branch_seed(2**63 - 1, 0) == 2**63 - 1
    assert 0 <= (branch_seed(2**63 - 1, 5) or -1) < 2**63


async def test_the_span_of_a_fork_goes_on_from_its_parents() -> None:
    kept = Kept()
    call = Call({"prompt_token_ids": PROMPT}, SamplingParams(max_tokens=None), "r", {})
    client: Any = Traced(TOKENIZER.encode("abc"))
    search = kept.tracing.request("chat", {}, {})
    own = EngineSource(client, call, Carrier(longest=1000), span=search)
    parent = await run(own, Start(0))
    await run(own, Start(1, prefix=Prefix(parent, 2)))
    search.close()
    (first,), (fork,) = kept.named("branch"), kept.named("fork")
    assert [link.context for link in fork.links] == [first.context]
    assert (fork.attributes or {})["steersman.begun_tokens"] == 2
    assert (fork.attributes or {})["gen_ai.usage.output_tokens"] == 1
    passed = [headers["traceparent"].split("-")[2] for headers in client.headers]
    spans = [span.context.span_id for span in (first, fork) if span.context]
    assert passed == [f"{one:016x}" for one in spans]


class Traced(Engine):
    """Keeps the trace context of its requests."""

    def __init__(self, tokens: list[int]) -> None:
        super().__init__(tokens)
        self.headers: list[Any] = []

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, trace_headers: Any = None
    ) -> AsyncGenerator[RequestOutput, None]:
        self.headers.append(trace_headers)
        async for output in super().generate(prompt, params, request_id):
            yield output
