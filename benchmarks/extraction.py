"""Means of the residual stream over many responses: in our engine, and as published.

The published way is a plain transformers forward for each response, whose hooks keep the
activations of its thinking tokens until all are averaged. Both take the same tokens of the same
responses, at both sites of all layers, in the same precision, with the same number of threads, in
rounds that alternate: with one thread, and with one for each core. Each runs in a process of its
own; start-up is reported apart.

    python benchmarks/extraction.py [--model reasoner] [--dtype bfloat16] [--responses 1600]
        [--rounds 5] [--threads 1 2]
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal, Self

import numpy as np
import psutil
import report

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["HF_HUB_OFFLINE"] = "1"

from steersman import models
from steersman.directions.contrast import Contrast, Weighted
from steersman.directions.sample import Sample
from steersman.puzzles.problems import KINDS, TRAINED, problems

Directions = dict[str, np.ndarray]
"""By site, [layers, hidden_size]."""

DTYPES = {"bfloat16": 2, "float32": 4}
"""Bytes of a number. The authors' scripts run in bfloat16."""
TOKENS = {"reasoner": 448, "smollm2": 256}
CACHED_TOKENS = 16384
"""Room of the KV cache. It is small, so that all of it is in use before memory is looked at."""
AIM = 5.0


class Engine:
    """Our engine."""

    def __init__(self, model: str, dtype: str, cache_bytes: int) -> None:
        from steersman.directions.offline import OfflineEngine

        cache = ("--kv-cache-memory-bytes", str(cache_bytes))
        self._engine = OfflineEngine(model, ("--dtype", dtype, *cache), capture=True)

    def capture(self, contrast: Contrast) -> None:
        """Add the responses of a contrast to the sums."""
        for _ in self._engine.capture(contrast):
            pass

    def directions(self, contrast: Contrast) -> Directions:
        """Captured directions; the sums start anew."""
        return {site: found.direction for site, found in self._engine.means(contrast).items()}

    def close(self) -> None:
        """End the engine, or this process would not."""
        self._engine.__exit__()


class Published:
    """Hooks on transformers, a response at a time; with or without the logits of its tokens."""

    def __init__(self, model: str, dtype: str, logits: bool) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        with models.ConsoleProgress() as progress:
            directory = models.prepare(model, progress=progress)
        whole = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
        self._forward = whole if logits else whole.model
        self._seen: dict[str, list[Any]] = {"attn": [], "layer": []}
        for layer in whole.model.layers:
            layer.register_forward_hook(lambda _, __, out: self._seen["layer"].append(out[0]))
            layer.post_attention_layernorm.register_forward_pre_hook(
                lambda _, inputs: self._seen["attn"].append(inputs[0][0])
            )
        self._kept: dict[str, tuple[list[Any], list[Any]]] = {}
        self._forget()

    def capture(self, contrast: Contrast) -> None:
        """Keep the activations of the responses of a contrast."""
        torch = self._torch
        for side, chosen in enumerate((contrast.plus, contrast.minus)):
            for one in chosen:
                for seen in self._seen.values():
                    seen.clear()
                with torch.inference_mode():
                    self._forward(torch.tensor([one.tokens]))
                    rows = torch.tensor(one.positions)
                    for site, seen in self._seen.items():
                        kept = torch.stack([stream[rows] for stream in seen])
                        self._kept[site][side].append(kept)  # [layers, positions, hidden_size]

    def directions(self, _: Contrast) -> Directions:
        """Mean of the kept values; the sums start anew."""
        torch = self._torch
        found = {}
        for site, sides in self._kept.items():
            plus, minus = (torch.stack([one.float().mean(dim=1) for one in side]) for side in sides)
            found[site] = (plus.mean(dim=0) - minus.mean(dim=0)).numpy()
        self._forget()
        return found

    def close(self) -> None:
        """Nothing is left running."""

    def _forget(self) -> None:
        self._kept = {site: ([], []) for site in self._seen}


class Side:
    """One of the contestants, in a process of its own."""

    def __init__(
        self, threads: int, make: Callable[..., Engine | Published], *arguments: Any
    ) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        context = get_context("spawn")
        self._connection, child = context.Pipe()
        started = time.perf_counter()
        self._process = context.Process(target=_serve, args=(child, threads, make, *arguments))
        self._process.start()
        child.close()
        self._connection.recv()
        self.start_seconds = time.perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join()

    def seconds(self, contrast: Contrast) -> tuple[float, Directions]:
        """Seconds that a contrast takes, and its directions."""
        seconds, _ = self._call("capture", contrast)
        more, found = self._call("directions", contrast)
        return seconds + more, found

    def memory(self, contrast: Contrast) -> list[float]:
        """MiB in use before a contrast, and after a quarter, half and all of its responses."""
        used = [self._mebibytes()]
        for start, end in ((0, 1), (1, 2), (2, 4)):
            self._call("capture", _part(contrast, start, end))
            used.append(self._mebibytes())
        self._call("directions", contrast)
        return [round(value, 1) for value in used]

    def _mebibytes(self) -> float:
        process = psutil.Process(self._process.pid)
        everyone = [process, *process.children(recursive=True)]
        return sum(one.memory_info().rss for one in everyone) / 2**20

    def _call(self, name: Literal["capture", "directions"], contrast: Contrast) -> Any:
        self._connection.send((name, contrast))
        return self._connection.recv()


def _serve(connection: Connection, threads: int, make: Callable[..., Any], *arguments: Any) -> None:
    side = make(*arguments)
    import torch

    if torch.get_num_threads() != threads:
        raise RuntimeError(f"{torch.get_num_threads()} threads, not {threads}")
    connection.send(None)
    while True:
        try:
            name, contrast = connection.recv()
        except EOFError:
            side.close()
            return
        started = time.perf_counter()
        answer = getattr(side, name)(contrast)
        connection.send((time.perf_counter() - started, answer))


def _part(contrast: Contrast, start: int, end: int) -> Contrast:
    """Some quarters of both sides."""

    def cut(side: Sequence[Weighted]) -> tuple[Weighted, ...]:
        return tuple(side[len(side) * start // 4 : len(side) * end // 4])

    return Contrast(cut(contrast.plus), cut(contrast.minus), {})


def draw(connection: Connection, model: str, count: int) -> None:
    """Send samples of a model: of its thinking, or without markers of all that it says."""
    from steersman.directions.offline import OfflineEngine
    from steersman.trajectory.phases import opens_thinking

    cells = [(kind, grade) for kind in KINDS for grade in TRAINED]
    # A tenth more: a response can leave its thinking phase open.
    asked = count + count // 10
    each = -(-asked // len(cells))
    found = [p for cell in cells for p in problems(*cell, "held_out", 0, each)][:asked]
    samples = []
    with OfflineEngine(model, ("--dtype", "float32")) as engine:
        prompts = [engine.prompt(problem.prompt) for problem in found]
        responses = engine.respond(prompts, range(asked), temperature=1.0, max_tokens=TOKENS[model])
        for problem, prompt, response in zip(found, prompts, responses, strict=True):
            sample = Sample.of(
                problem.id,
                prompt,
                response,
                correct=None,
                markers=engine.markers,
                opened=opens_thinking(prompt, engine.markers),
            )
            if engine.markers is None:  # all of it counts
                sample = Sample(problem.id, sample.prompt, response, None, range(len(response)))
            samples.append(sample)
    connection.send([sample for sample in samples if sample.thinking_tokens][:count])


def drawn(model: str, count: int) -> Contrast:
    """The longer half of so many responses against the shorter half, over their thinking."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=draw, args=(sender, model, count))
    process.start()
    sender.close()
    samples = sorted(receiver.recv(), key=lambda sample: sample.thinking_tokens)
    process.join()
    chosen = [Weighted.over_thinking(sample) for sample in samples]
    half = len(chosen) // 2
    # In an order in which every quarter has short and long ones.
    shuffle = np.random.default_rng(0).permutation
    short, long = ([part[i] for i in shuffle(len(part))] for part in (chosen[:half], chosen[half:]))
    return Contrast.of(long, short)


def cache_bytes(model: str, dtype: str) -> int:
    """Bytes of a KV cache of `CACHED_TOKENS`."""
    from transformers import AutoConfig

    with models.ConsoleProgress() as progress:
        config = AutoConfig.from_pretrained(models.prepare(model, progress=progress))
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * DTYPES[dtype] * config.num_hidden_layers * config.num_key_value_heads * head
    return int(token * CACHED_TOKENS)


def cosine(ours: Directions, theirs: Directions) -> dict[str, float]:
    """Least over the layers, by site."""
    return {
        site: round(
            min(
                float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
                for a, b in zip(ours[site], theirs[site], strict=True)
            ),
            7,
        )
        for site in ours
    }


def compare(
    contrast: Contrast, model: str, dtype: str, threads: int, rounds: int
) -> dict[str, Any]:
    """Time all sides on a contrast, and look at the memory of two."""
    everyone = len(contrast.plus) + len(contrast.minus)
    seconds: dict[str, list[float]] = {}
    found: dict[str, Directions] = {}
    with (
        Side(threads, Engine, model, dtype, cache_bytes(model, dtype)) as engine,
        Side(threads, Published, model, dtype, True) as whole,
        Side(threads, Published, model, dtype, False) as body,
    ):
        sides = {"engine": engine, "published": whole, "published, no logits": body}
        for number in range(rounds + 1):
            # Who is first alternates as well.
            for name in sorted(sides, reverse=bool(number % 2)):
                taken, found[name] = sides[name].seconds(contrast)
                if number:  # the first round warms up
                    seconds.setdefault(name, []).append(taken)
                print(f"{threads} threads, round {number}: {name} {taken:.2f} s", flush=True)
        memory = {"engine": engine.memory(contrast)}
        start = {name: round(side.start_seconds, 1) for name, side in sides.items()}
    # In a new process: the rounds have left this one with memory to fill.
    with Side(threads, Published, model, dtype, True) as fresh:
        memory["published"] = fresh.memory(contrast)
    ours = seconds["engine"]
    return {
        "start_seconds": start,
        "responses_per_second": {
            name: report.spread([everyone / taken for taken in values])
            for name, values in seconds.items()
        },
        "ratio": {
            name: {
                "of_medians": round(statistics.median(theirs) / statistics.median(ours), 3),
                "by_rounds": report.spread([a / b for a, b in zip(theirs, ours, strict=True)]),
            }
            for name, theirs in seconds.items()
            if name != "engine"
        },
        "least_cosine": cosine(found["engine"], found["published"]),
        "mebibytes_after_responses": {
            "responses": [0, *(everyone * part // 4 for part in (1, 2, 4))],
            **memory,
        },
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=TOKENS, default="reasoner")
    parser.add_argument("--responses", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    options = parser.parse_args()
    model, dtype = options.model, options.dtype
    contrast = drawn(model, options.responses)
    everyone = (*contrast.plus, *contrast.minus)
    print(f"{len(everyone)} responses, {sum(len(one.tokens) for one in everyone)} tokens")
    report.write(
        "extraction" if model == "reasoner" else f"extraction_{model}",
        {
            "what": "means of the residual stream at all layers, by our engine and as published",
            "model": model,
            "dtype": dtype,
            "responses": len(everyone),
            "tokens": sum(len(one.tokens) for one in everyone),
            "tokens_averaged": sum(len(one.positions) for one in everyone),
            "rounds": options.rounds,
            "aim": f">= {AIM}",
            "by_threads": {
                str(threads): compare(contrast, model, dtype, threads, options.rounds)
                for threads in options.threads
            },
        },
    )


if __name__ == "__main__":
    main()
