"""Cost of steering for an engine step: every other step of a batch runs without it.

The layers' op, the gate and the counting are taken out and put back between two steps (`steps.py`).
It shows the engine's part of the cost, far more finely than throughput over HTTP can.

    python benchmarks/steering_steps.py [--steps 240]
"""

import argparse
import os
from collections.abc import Callable

import report

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["HF_HUB_OFFLINE"] = "1"

import steps
import torch
from safetensors.torch import save
from vllm import LLM, SamplingParams

from steersman import models
from steersman.engine.compat.layers import decoder_layers
from steersman.engine.plugin import RPC
from steersman.engine.settings import Settings
from steersman.frontend.unplanned import unplanned
from steersman.steering.configuration import Configuration, Term
from steersman.wire import KEY

MODEL = "smollm2"
REQUESTS, PROMPT = 32, 24
HOOKS = ("execute_model", "_prepare_inputs", "sample_tokens")

Terms = Callable[[int], tuple[Term, ...]]

LOADS: dict[str, tuple[Terms, float]] = {
    "none steered": (lambda _: (), 0.99),
    "one configuration": (lambda _: (Term("a", 0.1),), 0.97),
    "four vectors each": (lambda _: tuple(Term(name, 0.05) for name in "abcd"), 0.97),
    "32 configurations": (lambda number: (Term("a", 0.1 + number / 1000),), 0.97),
    "32 configurations, at boundaries only": (
        lambda number: (Term("a", 0.1 + number / 1000, phase="answer", at="boundary"),),
        0.97,
    ),
}


class Switch:
    """Takes steering out of an eager engine, and puts it back, between two steps."""

    def __init__(self, llm: LLM) -> None:
        worker = llm.llm_engine.model_executor.driver_worker.worker
        self._runner = worker.model_runner
        self._hooks = {name: self._runner.__dict__[name] for name in HOOKS}
        layers = decoder_layers(self._runner.get_model(), worker.vllm_config.model_config)
        self._layers = [(layer, type(layer)) for layer in layers.values()]

    def turn(self, on: bool) -> None:
        """Steering in, or out: the runner's and the layers' own methods again."""
        for name, hook in self._hooks.items():
            if on:
                setattr(self._runner, name, hook)
            else:
                delattr(self._runner, name)
        for layer, steered in self._layers:
            layer.__class__ = steered if on else steered.__mro__[1]


def add_requests(llm: LLM, terms: Terms, tokens: int) -> None:
    """Give the engine its batch, of requests of so many tokens."""
    for number in range(REQUESTS):
        params = SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0, detokenize=False)
        if steering := terms(number):
            carrier = unplanned(Configuration.of(steering), origin=PROMPT)
            params.extra_args = {KEY: carrier.wire(str(number), params)}
        ids = [(100 + number * 7 + i) % 4000 + 10 for i in range(PROMPT)]
        llm.llm_engine.add_request(str(number), {"prompt_token_ids": ids}, params)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=240, help="of each load, an even number")
    count = parser.parse_args().steps
    with models.ConsoleProgress() as progress:
        directory = models.prepare(MODEL, progress=progress)
    llm = LLM(
        str(directory),
        dtype=steps.DTYPE,
        enforce_eager=True,
        max_num_seqs=REQUESTS,
        block_size=32,
        max_model_len=1024,
        enable_chunked_prefill=False,
        additional_config=Settings(rows=64).added_to({}),
    )
    config = llm.llm_engine.model_config
    boundary = bytes(i % 16 == 0 for i in range(config.get_vocab_size()))
    llm.collective_rpc(RPC, args=("arm", [], [], [], [], boundary))
    llm.collective_rpc(RPC, args=("self_test",))
    generator = torch.Generator().manual_seed(0)
    for name in "abcd":
        vector = {
            f"layer.{i}": torch.randn(config.get_hidden_size(), generator=generator) * 0.01
            for i in range(config.get_total_num_hidden_layers())
        }
        llm.collective_rpc(RPC, args=("load", name, save(vector)))
    switch = Switch(llm)
    found = {}
    for name, (terms, aim) in LOADS.items():
        add_requests(llm, terms, steps.longest(count))
        found[name] = {
            **steps.summary(*steps.seconds(llm, switch.turn, count)),
            "aim": f">= {aim}",
        }
        print(name, found[name], flush=True)
    report.write(
        "steering_steps",
        {
            "what": "engine steps without steering over steps with it: relative throughput",
            "requests": REQUESTS,
            "dtype": steps.DTYPE,
            "pairs": count // 2,
            "loads": found,
        },
    )


if __name__ == "__main__":
    main()
