"""Excerpts: responses that are put together from the steps of several engine requests."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.engine.compat.detokenizer import JoinedText
from steersman.frontend import splice
from steersman.frontend.outputs import as_delta, replay
from steersman.frontend.source import EngineSource
from steersman.frontend.splice import Texts
from steersman.trajectory.trajectory import Piece, Prefix, Start, Trajectory
from tests.unit.frontend.test_source import PROMPT, TEXTS, TOKENIZER, Engine, run, source

pytestmark = pytest.mark.anyio


async def three(engine: Engine, cut: int) -> tuple[EngineSource, list[Trajectory[RequestOutput]]]:
    """A response that was begun at the prompt, a fork of it, and one of that fork."""
    own = source(engine, SamplingParams(max_tokens=None, prompt_logprobs=1))
    root = await run(own, Start(0))
    parent = await run(own, Start(0, prefix=Prefix(root, 1), seed=1))
    fork = await run(own, Start(0, prefix=Prefix(parent, cut), seed=2))
    return own, [root, parent, fork]


@given(TEXTS, st.integers(1, 40), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 4))
def test_excerpts_read_as_the_whole_response(
    text: str, cut: int, bounds: list[int], step: int
) -> None:
    tokens = TOKENIZER.encode(text)
    cut = min(cut, len(tokens) - 1)
    own, (root, parent, fork) = asyncio.run(three(Engine(tokens, step), cut))
    ends = sorted({min(bound, len(tokens)) for bound in bounds} | {len(tokens)})
    pieces: list[Piece[RequestOutput]] = []
    written = begin = 0
    for number, end in enumerate(ends):
        one = (parent, fork)[number % 2]
        reason = "length" if end == len(tokens) else None
        pieces.append(one.excerpt(begin, end, written, reason))
        written, begin = written + len(pieces[-1].text), end

    assert "".join(piece.text for piece in pieces) == text
    assert [token for piece in pieces for token in piece.token_ids] == tokens
    assert [piece.finish_reason for piece in pieces] == [None] * (len(ends) - 1) + ["length"]
    for piece in pieces:
        (completion,) = piece.output.outputs
        assert [[*entry] for entry in completion.logprobs or ()] == [[t] for t in piece.token_ids]
        assert piece.output.prompt_token_ids == PROMPT
        as_delta(piece.output, 7, "theirs", last=False)

    # The trajectories are as they were: another fork, and the answer of each, read the same.
    again = asyncio.run(run(own, Start(0, prefix=Prefix(fork, cut), seed=3)))
    for one in (parent, fork, again):
        (answer,) = replay([one], RequestOutputKind.FINAL_ONLY, "theirs")
        assert answer.outputs[0].text == text
        assert [[*entry] for entry in answer.outputs[0].logprobs or ()] == [[t] for t in tokens]
    assert [root.tokens, parent.tokens] == [len(tokens)] * 2


@given(TEXTS, st.integers(1, 4), st.integers(0, 40))
def test_whole_steps_bring_the_text_of_their_tokens(text: str, step: int, wanted: int) -> None:
    tokens = TOKENIZER.encode(text)
    _, (_, parent, _) = asyncio.run(three(Engine(tokens, step), 1))
    end = parent.in_steps(wanted)
    assert wanted - step < end <= wanted or end == len(tokens) or wanted < 1 + step
    piece = parent.excerpt(0, end, 0, None)
    so_far = TOKENIZER.decode(tokens[:end])
    assert piece.text == so_far.rstrip("�") or so_far.startswith(piece.text)
    assert text.startswith(piece.text)


async def test_what_a_request_has_once_is_that_of_its_first_trajectory() -> None:
    _, (root, _, fork) = await three(Engine(TOKENIZER.encode("abcd")), 2)
    address = {"remote_block_ids": [4]}
    first, last = root.pieces[0].output, root.pieces[-1].output
    first.prompt, first.num_cached_tokens, last.kv_transfer_params = "???", 2, address
    for begin, end, reason in ((0, 3, None), (3, 4, "length")):
        output = fork.excerpt(begin, end, begin, reason).output
        assert (output.prompt, output.num_cached_tokens) == ("???", 2)
        assert output.kv_transfer_params == (None if reason is None else address)
        assert output.finished == (reason is not None)


async def test_a_fork_of_no_tokens_does_not_compute_the_prompt_again() -> None:
    engine = Engine(TOKENIZER.encode("abcd"))
    own = source(engine, SamplingParams(max_tokens=None, prompt_logprobs=1, stop=["c"]))
    root = await run(own, Start(0))
    await run(own, Start(0, prefix=Prefix(root, 0), seed=5))
    own_params, of_fork = (params for _, params in engine.requests)
    assert (own_params.prompt_logprobs, of_fork.prompt_logprobs) == (1, None)
    assert of_fork.stop == ["c"]
    assert engine.requests[1][0] == PROMPT


class Counted(JoinedText):
    """Text that counts the tokens which are read.

    Attributes:
        read: The count, of all texts.
        copies: Whether it can be copied.

    """

    read = 0
    copies = True

    def add(self, token_ids: Sequence[int], *, stopped: bool = False) -> str | None:
        Counted.read += len(token_ids)
        return super().add(token_ids, stopped=stopped)

    def copied(self) -> JoinedText:
        if not self.copies:
            raise TypeError("cannot pickle")
        return super().copied()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(splice, "JoinedText", Counted)
    monkeypatch.setattr(Counted, "read", 0)
    return Counted


async def test_a_response_that_forks_again_and_again_is_read_once(counted: type[Counted]) -> None:
    tokens = TOKENIZER.encode("aé→b😀c")
    own = source(Engine(tokens))
    current = await run(own, Start(0))
    for cut in range(1, len(tokens)):
        trials = [await run(own, Start(0, prefix=Prefix(current, cut), seed=n)) for n in (1, 2)]
        assert [one.text for one in trials] == ["aé→b😀c"] * 2
        current = trials[cut % 2]
    after = sum(2 * (len(tokens) - cut) for cut in range(1, len(tokens)))  # the forks' own tokens
    assert counted.read == len(tokens) - 1 + after


@pytest.mark.parametrize("copies", [True, False])
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 14)), max_size=8))
def test_each_prefix_has_the_text_that_it_would_have_alone(
    copies: bool, asked: list[tuple[int, int, int]]
) -> None:
    """Of two responses with forks, in any order; with a decoder that can be copied or not."""
    params = SamplingParams(max_tokens=None, stop=["x"])
    family: list[list[Trajectory[RequestOutput]]] = []
    for text in ("aé→b😀c.", "aé😀→"):
        root: Trajectory[RequestOutput] = Trajectory(Start(0))
        root.token_ids.extend(TOKENIZER.encode(text))
        family.append([root])
        for cut in (2, 4):
            fork: Trajectory[RequestOutput] = Trajectory(Start(0, prefix=Prefix(root, cut)))
            fork.token_ids.extend(root.token_ids[:cut] + TOKENIZER.encode("→é!"))
            family[-1].append(fork)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(splice, "JoinedText", Counted)
        patched.setattr(Counted, "copies", copies)
        texts = Texts(TOKENIZER, PROMPT, params)
        for root_number, number, cut in asked:
            one = family[root_number][number]
            tokens = one.token_ids[: min(cut, len(one.token_ids))]
            found = texts.after(Prefix(one, len(tokens)))
            alone = JoinedText.after(TOKENIZER, PROMPT, params)
            alone.add(tokens)
            for more in ([], *([token] for token in TOKENIZER.encode("→c"))):
                found.add(more)
                alone.add(more)
                assert found.text(ended=False) == alone.text(ended=False)
            assert list(found.token_ids) == list(alone.token_ids)


async def test_a_prefix_that_ends_at_a_stop_string_is_not_gone_on_with() -> None:
    own = source(Engine(TOKENIZER.encode("abcd")))
    parent = await run(own, Start(0))
    stopping = Texts(TOKENIZER, PROMPT, SamplingParams(max_tokens=None, stop=["bc"]))
    for _ in range(2):
        assert stopping.after(Prefix(parent, 4)).stop == "bc"
        assert stopping.after(Prefix(parent, 2)).stop is None
