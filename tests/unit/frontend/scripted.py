"""A scripted engine client, and what a wrapped engine needs beside it."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

NO_PHASE: Any = SimpleNamespace(
    markers=None, stops=(), opens=lambda *_: False, text_of=lambda _: ""
)
"""The reasoning of a model without a thinking phase."""
WHOLE = RequestOutputKind.FINAL_ONLY
PROMPT = {"type": "token", "prompt_token_ids": [4, 5, 6]}


class ScriptedClient:
    """Each request yields a token a tick, as many as its seed says, until it is aborted."""

    model_config = SimpleNamespace(max_model_len=100, get_vocab_size=lambda: 50)
    vllm_config = SimpleNamespace(
        structured_outputs_config=SimpleNamespace(enable_in_reasoning=False)
    )

    def __init__(self, error: Exception | None = None, length: int | None = None) -> None:
        self.error = error
        self.length = length
        self.requests: list[tuple[str, SamplingParams, dict[str, Any]]] = []
        self.admitted: list[int] = []
        self.aborted: set[str] = set()
        self.aborts = 0

    def check_admission(self, n: int, request_id: str | None = None) -> None:
        self.admitted.append(n)

    async def abort(self, request_ids: list[str]) -> None:
        self.aborts += 1
        self.aborted.update(request_ids)

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        self.requests.append((request_id, params, options))
        length = self.length or params.seed or 1
        for i in range(length):
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            aborted = request_id in self.aborted
            finish = "abort" if aborted else "stop" if i == length - 1 else None
            completion = CompletionOutput(
                index=0, text="w", token_ids=[7], cumulative_logprob=None, logprobs=None
            )
            completion.finish_reason = finish
            yield RequestOutput(
                request_id=request_id,
                prompt=None,
                prompt_token_ids=[4, 5, 6],
                prompt_logprobs=None,
                outputs=[completion],
                finished=finish is not None,
                num_cached_tokens=1,
            )
            if aborted:
                return
