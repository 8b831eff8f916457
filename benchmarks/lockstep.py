"""Chains in lock-step, as the published library runs them, on vLLM with prefix caching.

Written from the paper (arXiv 2504.03790, algorithm 1) and from what its library is known to do. In
each step the rests of all chains are generated in one call of vLLM's offline `LLM.generate`, then
scored, then accepted or rejected; the next step begins when the longest of them has ended. That is
the fairest place for it: over HTTP each step would pay for requests too. The loop adds next to
nothing: tokens go in and come out, and each response is decoded once, at its end.

The engine has the settings of our server's, without steering, and runs in the process of the loop,
so that no messages pass between two; VLLM_ENABLE_V1_MULTIPROCESSING=1 gives it one of its own.
"""

import math
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from apart import Apart, answer

from steersman.reward import pattern

THINK_START, THINK_END = "<think>", "</think>"
UNCLOSED = -40.0
"""Reward of a response whose thinking is not closed, as on our server."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Engine options, and those of the chains.

    Attributes:
        model: Directory of the model.
        dtype: Number type of its weights.
        sequences: Most sequences in a batch.
        block_size: Tokens of a block of the cache.
        tokens: Most tokens of a response.
        beta: Temperature of the reward.

    """

    model: str
    dtype: str
    sequences: int
    block_size: int
    tokens: int
    beta: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem of which chains are run.

    Attributes:
        prompt: Its prompt, as tokens.
        regex: An expression that right answers match.

    """

    prompt: list[int]
    regex: str


@dataclass(frozen=True, slots=True)
class State:
    """A response.

    Attributes:
        token_ids: Its tokens, the one that ends it included.
        reward: Its reward.

    """

    token_ids: list[int]
    reward: float


@dataclass(frozen=True, slots=True)
class Walked:
    """Some chains, and their cost.

    Attributes:
        seconds: From their beginning to the last step of all.
        steps: Steps of all chains.
        accepted: Those of them that were accepted.
        sampled: Tokens drawn, those of the first responses included.
        states: The last state of each chain.

    """

    seconds: float
    steps: int
    accepted: int
    sampled: int
    states: list[State]


Draw = Callable[[Sequence[Asked], Sequence[list[int]]], list[State]]
"""Draws a response to each problem, which begins with some tokens."""


def reward(text: str, regex: str) -> float:
    """1 for an answer that matches, 0 for another, and less for none."""
    _, closed, answer = text.partition(THINK_END)
    if not closed:
        if THINK_START in text:
            return UNCLOSED
        answer = text
    return float(pattern.compiled(regex).search(answer) is not None)


def log_ratio(state: State, proposal: State, beta: float) -> float:
    """Logarithm of the acceptance ratio: proposals are drawn from the model itself."""
    lengths = math.log(len(state.token_ids)) - math.log(len(proposal.token_ids))
    return (proposal.reward - state.reward) / beta + lengths


def walk(
    draw: Draw, asked: Sequence[Asked], steps: int, beta: float, drawing: random.Random
) -> Walked:
    """Run a chain of each of these problems, all of them in lock-step."""
    started = time.perf_counter()
    states = draw(asked, [[] for _ in asked])
    sampled, accepted = sum(len(state.token_ids) for state in states), 0
    for _ in range(steps):
        cuts = [int(drawing.random() * len(state.token_ids)) for state in states]
        kept = [state.token_ids[:cut] for state, cut in zip(states, cuts, strict=True)]
        proposals = draw(asked, kept)
        for number, (state, proposal) in enumerate(zip(states, proposals, strict=True)):
            sampled += len(proposal.token_ids) - cuts[number]
            if math.log(1 - drawing.random()) < log_ratio(state, proposal, beta):
                states[number], accepted = proposal, accepted + 1
    seconds = time.perf_counter() - started
    return Walked(seconds, steps * len(asked), accepted, sampled, states)


class Process(Apart):
    """The chains' engine and loop, in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(_serve, settings)

    def walk(self, asked: Sequence[Asked], steps: int) -> Walked:
        """Run a chain of each of these problems, all of them in lock-step."""
        walked: Walked = self.ask(list(asked), steps)
        return walked


class _Loop:
    def __init__(self, settings: Settings) -> None:
        from vllm import LLM

        self._settings = settings
        self._llm = LLM(
            settings.model,
            dtype=settings.dtype,
            enforce_eager=True,
            block_size=settings.block_size,
            max_num_seqs=settings.sequences,
            enable_chunked_prefill=False,
            enable_prefix_caching=True,
        )
        self._tokenizer = self._llm.get_tokenizer()
        self._random = random.Random(0)

    def walk(self, asked: Sequence[Asked], steps: int) -> Walked:
        return walk(self._draw, asked, steps, self._settings.beta, self._random)

    def end(self) -> None:
        """End the engine, or this process would not."""
        self._llm.llm_engine.engine_core.shutdown()

    def _draw(self, asked: Sequence[Asked], kept: Sequence[list[int]]) -> list[State]:
        """Responses that begin with the kept tokens, scored."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        prompts = [
            TokensPrompt(prompt_token_ids=[*one.prompt, *tokens])
            for one, tokens in zip(asked, kept, strict=True)
        ]
        params = [
            SamplingParams(
                temperature=1.0, max_tokens=self._settings.tokens - len(tokens), detokenize=False
            )
            for tokens in kept
        ]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        found = []
        for one, tokens, output in zip(asked, kept, outputs, strict=True):
            token_ids = [*tokens, *output.outputs[0].token_ids]
            text: Any = self._tokenizer.decode(token_ids, skip_special_tokens=True)
            found.append(State(token_ids, reward(text, one.regex)))
        return found


def _serve(connection: Connection, settings: Settings) -> None:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ["HF_HUB_OFFLINE"] = "1"
    loop = _Loop(settings)
    answer(connection, loop.walk)
    loop.end()
