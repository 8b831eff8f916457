"""A real vLLM engine with the plugin, in a process of its own."""

import asyncio
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from safetensors.numpy import save

from steersman.controls.control import Part
from steersman.edits import file as edit_file
from steersman.edits.edit import Edit
from steersman.engine.settings import Settings
from steersman.frontend.reports import Report, Reports, read_counts
from steersman.steering.configuration import Configuration, EditTerm, Term
from steersman.thinking.governing import Governing
from steersman.wire import KEY
from steersman_client import Cautious
from steersman_kernels.layout import CLASSES, Value
from tests.forked import Template, fork_workers

if TYPE_CHECKING:
    from tests.engine.drawing import Drawn

REASONER = Path(__file__).parents[2] / "server/steersman/models/reasoner"
LAYERS, HIDDEN = 4, 192
HEADS, HEAD_DIM = 6, 32
ROWS = 8
IMPLICIT = (383,)
"""A token that closes the thinking as a tool call does; the model never draws it by itself."""

Runner = Literal["V1", "V2"]

TEMPLATES: dict[Runner, Template] = {
    "V1": Template("tests.engine.imported"),
    "V2": Template("tests.engine.interpreted"),
}
"""Processes that engines are forked from. V2 needs Triton, which runs in its interpreter here."""

_START_SECONDS = 300
_CALL_SECONDS = 300


@dataclass(frozen=True)
class Job:
    """One request.

    Attributes:
        prompt: Its tokens.
        terms: Its steering; none if empty.
        options: Keyword arguments of `SamplingParams`.
        origin: Tokens of the prompt proper; all of it if None.
        opened: Whether the prompt leaves the thinking phase open.
        edit: The edit that it chose.
        governing: The limits of its thinking phase.
        monitored: Whether the entropy of each token is wanted.
        processed: Whether the one of the distribution that it is really drawn from is.
        confident: Whether the mean log-probability of the likeliest tokens is.

    """

    prompt: Sequence[int]
    terms: tuple[Term, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: int | None = None
    opened: bool = False
    edit: EditTerm | None = None
    governing: Governing | None = None
    monitored: bool = False
    processed: bool = False
    confident: bool = False


@dataclass(frozen=True)
class Result:
    """Result of it.

    Attributes:
        token_ids: The generated tokens, of each choice.
        logprobs: Of each generated token of the first choice, by token id; empty if not asked for.
        cached: Prompt tokens read from the prefix cache.
        counts: Tokens steered, by class; None if the request was not controlled.
        edited: Tokens that went through its edit.
        values: What was said of each generated token of the first choice.
        ended: Why each choice ended: its finish reason, and its stop reason.

    """

    token_ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[dict[int, float], ...]
    cached: int
    counts: dict[tuple[str, bool], int] | None
    edited: int
    values: tuple[Value, ...] = ()
    ended: tuple[tuple[str | None, int | str | None], ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.token_ids[0]

    @property
    def steered(self) -> int:
        return sum(self.counts.values()) if self.counts else 0


class EngineProcess:
    """vLLM's offline engine on the reasoner.

    Args:
        runner: vLLM's model runner. V2 needs Triton, which runs in its interpreter here.
        options: Keyword arguments of `LLM`.

    """

    def __init__(self, *, runner: Runner = "V1", **options: Any) -> None:
        self._connection, child = multiprocessing.Pipe()
        self._process = TEMPLATES[runner].start(_serve, child, runner, options)
        child.close()
        self.facts: list[dict[str, Any]] = self._answer(_START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join(60)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def run(self, *jobs: Job) -> list[Result]:
        """Run requests as one batch."""
        results: list[Result] = self._call("run", jobs)
        return results

    def draw(self, spec: Cautious, *jobs: Job, room: int = 64) -> "list[Drawn]":
        """Sample responses cautiously, side by side."""
        drawn: list[Drawn] = self._call("draw", (spec, jobs, room))
        return drawn

    def rpc(self, name: str, *args: Any) -> list[Any]:
        """Call every rank."""
        answers: list[Any] = self._call("rpc", (name, *args))
        return answers

    def load(self, digest: str, layers: Mapping[int, np.ndarray]) -> None:
        """Put a vector on every rank."""
        self.rpc("load", digest, save({f"layer.{i}": v for i, v in layers.items()}))

    def offer(self, edit: Edit) -> None:
        """Put an edit on offer, on every rank."""
        self.rpc("load_edit", edit_file.write(edit))

    def apply(self, *edits: Edit) -> None:
        """Make these edits live, and no others, on every rank. The engine has nothing to do now."""
        contents = [edit_file.write(edit) for edit in edits]
        assert not any(self.rpc("prepare_edits", contents))
        self.rpc("commit_edits")
        self.rpc("keep_edits")
        self.forget()

    def forget(self) -> None:
        """Empty the prefix cache."""
        self._call("forget", None)

    def fail_once(self, layer: int, step: str) -> None:
        """Let the next `prepare` or `swap` of a layer's weight find no memory, on every rank."""
        self._call("fail_once", (layer, step))

    def encode(self, text: str) -> list[int]:
        """The prompt of a chat with one user message."""
        ids: list[int] = self._call("encode", text)
        return ids

    def token(self, text: str) -> int:
        """The id of a token."""
        id_: int = self._call("token", text)
        return id_

    def texts(self) -> list[str]:
        """The vocabulary."""
        texts: list[str] = self._call("texts", None)
        return texts

    def metrics(self) -> dict[str, float]:
        """vLLM's own counters."""
        counters: dict[str, float] = self._call("metrics", None)
        return counters

    def _call(self, name: str, argument: Any) -> Any:
        self._connection.send((name, argument))
        return self._answer(_CALL_SECONDS)

    def _answer(self, seconds: float) -> Any:
        if not self._connection.poll(seconds):
            raise TimeoutError(f"the engine has not answered in {seconds} s")
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, runner: Runner, options: dict[str, Any]) -> None:
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = str(int(runner == "V2"))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    fork_workers()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    engine = _Engine(options)
    connection.send(engine.facts)
    while True:
        try:
            name, argument = connection.recv()
        except EOFError:
            return
        try:
            connection.send(getattr(engine, name)(argument))
        except Exception as error:
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


class _Confident(Part):
    """A control that needs the confidence, and nothing else."""

    def wire(self, origin: int) -> Mapping[str, Any]:
        return {"confidence": True}


class _Engine:
    def __init__(self, options: dict[str, Any]) -> None:
        from vllm import LLM

        from steersman.trajectory.boundaries import boundary_table

        defaults: dict[str, Any] = {
            "model": str(REASONER),
            "dtype": "float32",
            "enforce_eager": True,
            "max_num_seqs": 16,
            "block_size": 32,
            "max_model_len": 512,
            "enable_chunked_prefill": False,
            "disable_log_stats": False,
            "max_logprobs": -1,
            "additional_config": Settings(rows=ROWS).added_to({}),
        }
        self.llm = LLM(**{**defaults, **options})
        self.tokenizer = self.llm.get_tokenizer()
        start, end = [self.token("<think>")], [self.token("</think>")]
        boundary = boundary_table(self.texts(None))
        self.facts = self.rpc(("arm", start, end, list(IMPLICIT), end, boundary))
        self.rpc(("self_test",))
        # The reports come one a token; the engine hands on the last.
        self.reports = Reports()
        self.reports.listen(self.llm.llm_engine)

    def rpc(self, call: tuple[Any, ...]) -> list[Any]:
        return self.llm.collective_rpc("steersman", args=call)

    def fail_once(self, asked: tuple[int, str]) -> None:
        self.llm.collective_rpc(_fail_once, args=asked)

    def forget(self, _: None) -> None:
        assert self.llm.reset_prefix_cache()

    def token(self, text: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(text))

    def texts(self, _: None) -> list[str]:
        size = self.llm.llm_engine.model_config.get_vocab_size()
        known = [[i] for i in range(len(self.tokenizer))]
        texts = self.tokenizer.batch_decode(known, skip_special_tokens=True)
        return texts + [""] * (size - len(texts))

    def encode(self, text: str) -> list[int]:
        messages = [{"role": "user", "content": text}]
        return list(
            self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
        )

    def metrics(self, _: None) -> dict[str, float]:
        return {m.name: m.value for m in self.llm.get_metrics() if hasattr(m, "value")}

    def draw(self, asked: tuple[Cautious, Sequence[Job], int]) -> "list[Drawn]":
        from vllm import SamplingParams

        from tests.engine.drawing import draw

        spec, jobs, room = asked
        calls = [(job.prompt, SamplingParams(**job.options)) for job in jobs]
        return asyncio.run(draw(self.llm, self.reports, spec, calls, room))

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        from vllm import SamplingParams

        from steersman.frontend.unplanned import unplanned

        params, reports = [], []
        for job in jobs:
            options = {"temperature": 0, "max_tokens": 40, **job.options}
            plain = SamplingParams(**options)
            report = self.reports.open(plain.n)
            reports.append(report)
            carrier = unplanned(
                Configuration.of(job.terms, job.edit) if job.terms or job.edit else None,
                job.governing,
                monitored=job.monitored,
                processed=job.processed,
                origin=len(job.prompt) if job.origin is None else job.origin,
                opened=job.opened,
                begun=0 if job.origin is None else len(job.prompt) - job.origin,
                stops=[self.tokenizer.eos_token_id],
                longest=self.llm.llm_engine.model_config.max_model_len,
            )
            if job.confident:
                carrier = replace(carrier, parts=(*carrier.parts, _Confident()))
            if carrier.parts:
                plain.extra_args = {KEY: carrier.wire(report.key, plain)}
            params.append(plain)
        prompts = [{"prompt_token_ids": list(job.prompt)} for job in jobs]
        outputs = self.llm.generate(prompts, params, use_tqdm=False)
        for report in reports:
            self.reports.close(report)
        return [_result(output, report) for output, report in zip(outputs, reports, strict=True)]


def _fail_once(worker: Any, layer: int, step: str) -> None:
    import torch

    weight = worker.steersman_ring._live._weights[layer]

    def fail(*_: object) -> None:
        delattr(weight, step)  # from here on the class's own
        raise torch.OutOfMemoryError(f"no room for layer {layer}")

    setattr(weight, step, fail)


def _result(output: Any, report: Report) -> Result:
    counts = [
        sum(column) for column in zip(*map(read_counts, filter(None, report.counts)), strict=True)
    ]
    return Result(
        token_ids=tuple(tuple(choice.token_ids) for choice in output.outputs),
        logprobs=tuple(
            {token: entry.logprob for token, entry in step.items()}
            for step in output.outputs[0].logprobs or ()
        ),
        cached=output.num_cached_tokens or 0,
        counts=dict(zip(CLASSES, counts[:-1], strict=True)) if counts else None,
        edited=counts[-1] if counts else 0,
        values=tuple(map(Value.of, report.values[0])),
        ended=tuple((choice.finish_reason, choice.stop_reason) for choice in output.outputs),
    )
