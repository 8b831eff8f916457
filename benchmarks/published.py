"""Cautious sampling as its authors run it: one trial after another, at batch 1, on transformers.

Written from the paper (arXiv 2507.03038) and from what its code is known to do: each trial has a
`copy.deepcopy` of the key/value cache, the response goes on with the cache of the winner, and
perplexities are of the processed probabilities. As in our sampler, a trial ends at any token whose
text contains a mark, and at a limit. No forward pass is made that the algorithm does not need.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from apart import Apart, answer

from steersman.sampling.composed import STOP_MARKS
from steersman.sampling.trials import number_of_trials
from steersman_client import Cautious

_EPSILON = 1e-10
"""Added to probabilities inside the logarithm of the entropy, as in the authors' code."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sampling options of the loop.

    Attributes:
        model: Directory of the model.
        dtype: Number type of its weights.
        temperature: Above 0.
        top_p: Below 1.
        tokens: Tokens of each response; the end of the sequence is a token as any other.
        rules: Where to branch, and how often.

    """

    model: str
    dtype: str
    temperature: float
    top_p: float
    tokens: int
    rules: Cautious


@dataclass(frozen=True, slots=True)
class Response:
    """A response, and what it took.

    Attributes:
        token_ids: Its tokens.
        seconds: Wall clock.
        sampled: Tokens drawn, those of all trials included.
        copying: Seconds in which caches were copied.
        winners: Tokens of each winner.
        trials: Tokens of each trial.

    """

    token_ids: list[int]
    seconds: float
    sampled: int
    copying: float
    winners: list[int]
    trials: list[int]


class Process(Apart):
    """The loop, in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(_serve, settings)

    def respond(self, prompt: Sequence[int], seed: int) -> Response:
        """A response to some prompt tokens."""
        response: Response = self.ask(list(prompt), seed)
        return response


@dataclass(slots=True)
class _Trial:
    token_ids: list[int]
    logprobs: float
    cache: Any

    @property
    def mean(self) -> float:
        return self.logprobs / len(self.token_ids)


class _Loop:
    def __init__(self, settings: Settings) -> None:
        import torch
        from transformers import (
            AutoModelForCausalLM,
            AutoTokenizer,
            DynamicCache,
            LogitsProcessorList,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self._torch, self._new_cache = torch, DynamicCache
        self._settings = settings
        self._model = AutoModelForCausalLM.from_pretrained(
            settings.model, dtype=settings.dtype
        ).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(settings.model)
        self._process = LogitsProcessorList(
            [TemperatureLogitsWarper(settings.temperature), TopPLogitsWarper(settings.top_p)]
        )
        self._ends: dict[int, bool] = {}
        self._copying = 0.0

    def respond(self, prompt: Sequence[int], seed: int) -> Response:
        self._torch.manual_seed(seed)
        started, self._copying = time.perf_counter(), 0.0
        most, token_ids = self._settings.tokens, list[int]()
        sampled, winners, trials = 0, list[int](), list[int]()
        cache = self._new_cache()
        probabilities = self._forward(prompt, cache)
        while True:
            best, number = None, self._trials(probabilities)
            for _ in range(number):
                limit = 1 if number == 1 else self._settings.rules.max_trial_tokens
                limit = min(limit, most - len(token_ids))
                own = cache if number == 1 else self._copied(cache)
                trial = self._trial(probabilities, own, limit)
                sampled += len(trial.token_ids)
                if number > 1:
                    trials.append(len(trial.token_ids))
                if best is None or trial.mean > best.mean:
                    best = trial
            token_ids += best.token_ids
            if number > 1:
                winners.append(len(best.token_ids))
            if len(token_ids) == most:
                break
            cache = best.cache
            probabilities = self._forward(best.token_ids[-1:], cache)
        seconds = time.perf_counter() - started
        return Response(token_ids, seconds, sampled, self._copying, winners, trials)

    def warm_up(self) -> None:
        """Make the first forward passes, which are slower."""
        cache = self._new_cache()
        for _ in range(8):
            self._forward([0], self._copied(cache))

    def _trials(self, probabilities: Any) -> int:
        entropy = -(probabilities * (probabilities + _EPSILON).log()).sum().item()
        return number_of_trials(entropy, self._settings.rules)

    def _trial(self, probabilities: Any, cache: Any, limit: int) -> _Trial:
        """A trial that begins with a token of this distribution; its last token is not in the
        cache yet."""
        trial = _Trial([], 0.0, cache)
        while True:
            token = self._torch.multinomial(probabilities, 1).item()
            trial.token_ids.append(token)
            trial.logprobs += probabilities[token].log().item()
            if len(trial.token_ids) == limit or self._marked(token):
                return trial
            probabilities = self._forward([token], cache)

    def _marked(self, token: int) -> bool:
        if token not in self._ends:
            text = self._tokenizer.decode([token], skip_special_tokens=True)
            self._ends[token] = any(mark in text for mark in STOP_MARKS)
        return self._ends[token]

    def _copied(self, cache: Any) -> Any:
        started = time.perf_counter()
        copied = copy.deepcopy(cache)
        self._copying += time.perf_counter() - started
        return copied

    def _forward(self, token_ids: Sequence[int], cache: Any) -> Any:
        """Processed probabilities of the next token, [vocabulary]; the tokens go into the cache."""
        ids = self._torch.tensor([list(token_ids)])
        logits = self._model(ids, past_key_values=cache, logits_to_keep=1).logits[:, -1].float()
        return self._process(ids, logits).softmax(dim=-1)[0]


def _serve(connection: Connection, settings: Settings) -> None:
    import torch

    loop = _Loop(settings)
    with torch.no_grad():
        loop.warm_up()
        answer(connection, loop.respond)
