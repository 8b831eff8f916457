"""Cost of the controls in vLLM's engine alone, without a server: for GPUs, where steps are short.

Each engine runs in a process of its own, one after the other, with dummy weights of a model's
shape; the plain one first and last, so that a drift of the machine shows.

    PYTHONPATH=server:kernels python benchmarks/controls_offline.py [--shape SHAPE] [--rounds 7]

It needs vLLM (0.26 to 0.32), torch and a GPU, and nothing else that Steersman's server needs.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import report
import torch
from safetensors.torch import save

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "qwen2.5-1.5b": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
}
COMMON = {
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}
BATCH, PROMPT, TOKENS = 256, 512, 128
# Any tokens will do as markers: with dummy weights nothing is closed by itself.
MARKERS: tuple[list[int], ...] = ([151667], [151668], [151668], [151645])
AIMS = {
    "none": ">= 0.99",
    "one configuration": ">= 0.98",
    "four vectors each": ">= 0.98",
    f"{BATCH} configurations": ">= 0.97",
    "monitored": ">= 0.99",
}


@dataclass(frozen=True)
class Load:
    """Options of one request."""

    terms: tuple[Any, ...] = ()
    monitored: bool = False
    governed: bool = False
    logprobs: int | None = None

    @property
    def controlled(self) -> bool:
        return bool(self.terms) or self.monitored or self.governed


def rates(
    connection: Connection, model: str, shape: dict[str, Any], steering: bool, rounds: int
) -> None:
    """Tokens per second of each round of each kind of load, in one engine."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    from steersman.engine.plugin import RPC, register
    from steersman.engine.settings import Settings
    from steersman.frontend.reports import Reports, read_counts
    from steersman.frontend.unplanned import unplanned
    from steersman.steering.configuration import Configuration, Term
    from steersman.thinking.governing import Governing
    from steersman.wire import KEY

    register()
    # Looked at in every step, and never reached.
    limits = Governing(budget=100_000, grace=8, on_loop=True, window=32, entropy_below=1e-9)
    settings = Settings(rows=BATCH).added_to({}) if steering else {}
    llm = LLM(
        model=model,
        load_format="dummy",
        skip_tokenizer_init=True,
        max_model_len=4096,
        max_num_seqs=BATCH,
        gpu_memory_utilization=0.5,
        seed=0,
        additional_config=settings,
    )
    reports = Reports()
    reports.listen(llm.llm_engine)
    plain = Load()
    loads: dict[str, list[Load]] = {"none": [plain] * BATCH}
    facts: list[Any] = []
    if steering:
        facts = llm.collective_rpc(RPC, args=("arm", *MARKERS, bytes(COMMON["vocab_size"])))
        llm.collective_rpc(RPC, args=("self_test",))
        generator = torch.Generator().manual_seed(0)
        for name in "abcd":
            vector = {
                f"layer.{i}": torch.randn(shape["hidden_size"], generator=generator) * 0.01
                for i in range(shape["num_hidden_layers"])
            }
            llm.collective_rpc(RPC, args=("load", name, save(vector)))
        loads |= {
            "one configuration": [Load((Term("a", 0.1),))] * BATCH,
            "four vectors each": [Load(tuple(Term(name, 0.1) for name in "abcd"))] * BATCH,
            f"{BATCH} configurations": [Load((Term("a", 0.1 + i / 1000),)) for i in range(BATCH)],
            "monitored": [Load(monitored=True)] * BATCH,
            "governed": [Load(governed=True)] * BATCH,
            "logprobs=1": [Load(logprobs=1)] * BATCH,
        }
    generator = torch.Generator().manual_seed(1)

    def run(kind: str) -> float:
        params = []
        listed = [reports.open(1) for _ in loads[kind]]
        for asked, own in zip(loads[kind], listed, strict=True):
            one = SamplingParams(
                max_tokens=TOKENS,
                ignore_eos=True,
                temperature=1.0,
                detokenize=False,
                logprobs=asked.logprobs,
            )
            if asked.controlled:
                carrier = unplanned(
                    configuration=Configuration.of(asked.terms) if asked.terms else None,
                    governing=limits if asked.governed else None,
                    monitored=asked.monitored,
                    origin=PROMPT,
                    opened=True,
                    longest=10**6,
                )
                one.extra_args = {KEY: carrier.wire(own.key, one)}
            params.append(one)
        ids = torch.randint(10, 150000, (BATCH, PROMPT), generator=generator).tolist()
        prompts = [{"prompt_token_ids": row} for row in ids]
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        assert len(outputs) == BATCH
        for own, asked in zip(listed, loads[kind], strict=True):
            reports.close(own)
            steered = sum(read_counts(own.counts[0]))
            assert steered == (TOKENS - 1 if asked.terms else 0), steered
            assert len(own.values[0]) == (TOKENS if asked.monitored or asked.governed else 0)
        return BATCH * TOKENS / seconds

    found: dict[str, list[float]] = {kind: [] for kind in loads}
    for number in range(rounds + 2):
        for kind, values in found.items():
            rate = run(kind)
            if number >= 2:  # the first rounds warm up
                values.append(rate)
    connection.send((found, facts))


def measure(*arguments: Any) -> tuple[dict[str, list[float]], list[Any]]:
    """`rates` in a process of its own, so that the device is free again afterwards."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=rates, args=(sender, *arguments))
    process.start()
    sender.close()
    try:
        answer: tuple[dict[str, list[float]], list[Any]] = receiver.recv()
    except EOFError:
        sys.exit("an engine has died: see above")
    process.join()
    return answer


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU; benchmarks/steering.py runs on a CPU")
    shape = SHAPES[options.shape]
    directory = Path(tempfile.mkdtemp(prefix="shape-"))
    (directory / "config.json").write_text(json.dumps({**COMMON, **shape}))
    before, _ = measure(str(directory), shape, False, options.rounds)
    steered, facts = measure(str(directory), shape, True, options.rounds)
    after, _ = measure(str(directory), shape, False, options.rounds)
    plain = before["none"] + after["none"]
    report.write(
        f"controls_{options.shape}",
        {
            "what": "throughput with controls over vLLM without Steersman, offline, dummy weights",
            "device": torch.cuda.get_device_name(),
            "engine": facts,
            "batch": BATCH,
            "prompt": PROMPT,
            "tokens": TOKENS,
            "tokens_per_second": {
                "no steering installed, before": report.spread(before["none"]),
                "no steering installed, after": report.spread(after["none"]),
                **{kind: report.spread(values) for kind, values in steered.items()},
            },
            "ratio": {
                kind: {
                    "of_medians": round(statistics.median(values) / statistics.median(plain), 4),
                    "aim": AIMS.get(kind),
                }
                for kind, values in steered.items()
            },
        },
    )


if __name__ == "__main__":
    main()
