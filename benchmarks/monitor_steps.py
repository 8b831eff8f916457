"""Cost of watching every request for an engine step: every other step of a batch runs without it.

For comparison, vLLM's own `logprobs=1` in the same way: one number a token, and none of entropy.

    python benchmarks/monitor_steps.py [--steps 400]
"""

import argparse
import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import report

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["HF_HUB_OFFLINE"] = "1"

import steps
from vllm import LLM, SamplingParams

from steersman import models
from steersman.engine.plugin import RPC
from steersman.engine.settings import Settings
from steersman.frontend.reports import Reports
from steersman.frontend.unplanned import unplanned
from steersman.thinking.governing import Governing
from steersman.trajectory.boundaries import boundary_table
from steersman.wire import KEY

MODELS = ("smollm2", "reasoner")
REQUESTS, PROMPT = 32, 24
MONITORED, GOVERNED, LOGPROBS = "monitored", "monitored and governed", "logprobs=1"
AIMS = {MONITORED: ">= 0.97", GOVERNED: None, LOGPROBS: None}
# Limits that are looked at in every step and never reached.
LIMITS = Governing(budget=100_000, grace=8, on_loop=True, window=32, entropy_below=1e-9)
OURS = {
    "runner": ("execute_model", "_prepare_inputs", "sample_tokens"),
    "sampler": ("forward", "sample"),
}


class Engine:
    """An engine with a batch that is watched, or not, from one step to the next.

    Args:
        model: A built-in model.

    """

    def __init__(self, model: str) -> None:
        with models.ConsoleProgress() as progress:
            directory = models.prepare(model, progress=progress)
        self.llm = LLM(
            str(directory),
            dtype=steps.DTYPE,
            enforce_eager=True,
            max_num_seqs=REQUESTS,
            block_size=32,
            max_model_len=1024,
            enable_chunked_prefill=False,
            enable_prefix_caching=False,
            additional_config=Settings(rows=64).added_to({}),
        )
        self.reports = Reports()
        self.reports.listen(self.llm.llm_engine)
        self._runner = self.llm.llm_engine.model_executor.driver_worker.worker.model_runner
        self._hooks = [
            (owner, name, owner.__dict__[name])
            for owner, names in (
                (self._runner, OURS["runner"]),
                (self._runner.sampler, OURS["sampler"]),
            )
            for name in names
        ]
        tokenizer = self.llm.get_tokenizer()
        size = self.llm.llm_engine.model_config.get_vocab_size()
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        boundary = boundary_table([*texts, *[""] * (size - len(texts))])
        # Any token will do as a marker: the requests think from their start, and go on doing so.
        start, end = [size - 2], [size - 1]
        self.llm.collective_rpc(RPC, args=("arm", start, end, end, [], boundary))
        self.llm.collective_rpc(RPC, args=("self_test",))

    def measure(self, kind: str, count: int) -> dict[str, Any]:
        """Pairs of steps."""
        listed = [self.reports.open(1) for _ in range(REQUESTS)]
        for number, one in enumerate(listed):
            params = SamplingParams(
                max_tokens=steps.longest(count),
                ignore_eos=True,
                temperature=1.0,
                detokenize=False,
                logprobs=1 if kind == LOGPROBS else None,
            )
            if kind != LOGPROBS:
                governing = LIMITS if kind == GOVERNED else None
                carrier = unplanned(
                    governing=governing, monitored=True, origin=PROMPT, opened=True, longest=10**6
                )
                params.extra_args = {KEY: carrier.wire(one.key, params)}
            ids = [(100 + number * 7 + i) % 300 + 10 for i in range(PROMPT)]
            self.llm.llm_engine.add_request(str(number), {"prompt_token_ids": ids}, params)
        turn = self._turn_logprobs if kind == LOGPROBS else self._turn_hooks
        found = steps.summary(*steps.seconds(self.llm, turn, count))
        said = 0 if kind == LOGPROBS else steps.longest(count) - count // 2
        assert {len(one.values[0]) for one in listed} == {said}
        for one in listed:
            self.reports.close(one)
        return found

    def _turn_hooks(self, on: bool) -> None:
        for owner, name, hook in self._hooks:
            if on:
                setattr(owner, name, hook)
            else:
                delattr(owner, name)

    def _turn_logprobs(self, on: bool) -> None:
        self._runner.input_batch.sampling_metadata.max_num_logprobs = 1 if on else None


def model_in_a_process(model: str, count: int) -> dict[str, Any]:
    """All kinds on one model: a process has one engine in its life."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, model, count))
    process.start()
    sender.close()
    found: dict[str, Any] = receiver.recv()
    process.join()
    return found


def _measure(connection: Connection, model: str, count: int) -> None:
    engine = Engine(model)
    found: dict[str, Any] = {}
    for kind, aim in AIMS.items():
        found[kind] = {**engine.measure(kind, count), **({"aim": aim} if aim else {})}
        print(model, kind, found[kind], flush=True)
    connection.send(found)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="of each kind, an even number")
    parser.add_argument("--model", choices=MODELS, action="append", help="both if left out")
    options = parser.parse_args()
    report.write(
        "monitor_steps",
        {
            "what": "engine steps unwatched over steps in which every request is watched: relative "
            "throughput",
            "requests": REQUESTS,
            "dtype": steps.DTYPE,
            "pairs": options.steps // 2,
            "models": {
                model: model_in_a_process(model, options.steps) for model in options.model or MODELS
            },
        },
    )


if __name__ == "__main__":
    main()
