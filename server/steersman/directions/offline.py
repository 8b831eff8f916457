"""vLLM's offline engine: responses in bulk, and means of the residual stream over them."""

import contextlib
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from safetensors.numpy import load
from vllm import LLM, EngineArgs, RequestOutput, SamplingParams

from steersman.arguments import parse
from steersman.capabilities import Model
from steersman.directions.contrast import Contrast, Weighted
from steersman.directions.error import DirectionError
from steersman.engine.capture import SIDES, SITES, Columns
from steersman.engine.compat.offline import in_this_process, run, shut_down
from steersman.engine.plugin import RPC
from steersman.engine.settings import Settings
from steersman.frontend.describe import describe_model
from steersman.frontend.reasoning import Reasoning
from steersman.trajectory.phases import Markers
from steersman.wire import KEY, RequestMessage

# Requests handed to vLLM at once: enough for its largest batches.
_CHUNK = 512
# Weights in the formats that are not read.
_NOT_FETCHED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*"]


@dataclass(frozen=True, slots=True)
class Means:
    """Means captured at one site.

    Attributes:
        direction: mean(plus) - mean(minus), [layers, hidden_size] float32.
        norms: Mean norm of the residual stream over both sides, [layers].
        separation: Norm of the direction over the standard deviation of the captured tokens around
            their side's mean, [layers]: how far apart the sides are.

    """

    direction: NDArray[np.float32]
    norms: NDArray[np.float64]
    separation: NDArray[np.float64]


class OfflineEngine:
    """An engine of its own, without a server.

    Args:
        model: A built-in model, a Hugging Face id or a directory.
        arguments: Further arguments of `steersman serve`'s engine.
        capture: Whether it captures the residual stream, which needs eager mode, instead of
            sampling fast. Such an engine runs in this process, which can have but one.

    """

    def __init__(self, model: str, arguments: Sequence[str] = (), *, capture: bool = False) -> None:
        settings = Settings(capture=True) if capture else None
        eager = ["--enforce-eager"] if capture else []
        args = parse([model, *arguments, *eager], settings)
        engine_args = EngineArgs.from_cli_args(args)
        # Every token has to be computed where its residual stream is wanted.
        engine_args.enable_prefix_caching = not capture
        engine_args.disable_log_stats = True
        with in_this_process() if capture else contextlib.nullcontext():
            self._llm = LLM.from_engine_args(engine_args)
        self._caching = engine_args.enable_prefix_caching
        self._reasoning = Reasoning(self._llm.llm_engine.vllm_config, self._llm.get_tokenizer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shut_down(self._llm)

    @property
    def model(self) -> Model:
        """The model."""
        config = self._llm.llm_engine.model_config
        return describe_model(config, (config.served_model_name,))

    @property
    def directory(self) -> Path:
        """The directory that the model was loaded from."""
        return _directory(self._llm.llm_engine.model_config)

    @property
    def markers(self) -> Markers | None:
        """The model's thinking markers."""
        return self._reasoning.markers

    def opens_thinking(self, prompt: Sequence[int]) -> bool:
        """Tell whether a prompt leaves the thinking phase open."""
        return self._reasoning.opens(prompt)

    def texts(self) -> list[str]:
        """The text of every token; empty for those that only the model has.

        Weights are padded to more tokens than the tokenizer has, and a model can sample these.
        """
        tokenizer = self._llm.get_tokenizer()
        known = list(tokenizer.batch_decode([[i] for i in range(len(tokenizer))]))
        return known + [""] * (self.model.vocabulary - len(known))

    def prompt(self, question: str) -> list[int]:
        """A chat with one user message, as tokens."""
        chat: Any = [{"role": "user", "content": question}]
        tokenizer: Any = self._llm.get_tokenizer()
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        return list(ids)

    def text(self, token_ids: Sequence[int], *, special: bool = True) -> str:
        """The text of tokens, with or without special ones."""
        tokenizer = self._llm.get_tokenizer()
        return str(tokenizer.decode(list(token_ids), skip_special_tokens=not special))

    def respond(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], **sampling: Any
    ) -> Iterator[tuple[int, ...]]:
        """A response to each prompt, in order, as it becomes known.

        Args:
            prompts: As tokens.
            seeds: One for each prompt.
            sampling: Further fields of `SamplingParams`.

        """
        for start in range(0, len(prompts), _CHUNK):
            params = [SamplingParams(seed=s, **sampling) for s in seeds[start : start + _CHUNK]]
            ended: dict[int, RequestOutput] = {}
            following = 0
            for place, output in self._run(prompts[start : start + _CHUNK], params):
                ended[place] = output
                while (ready := ended.pop(following, None)) is not None:
                    following += 1
                    yield tuple(ready.outputs[0].token_ids)

    def capture(self, contrast: Contrast) -> Iterator[None]:
        """Run the samples of a contrast through the model; yields after each."""
        samples = _by_sample(contrast)
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            for _ in self._run([tokens for tokens, _ in chunk], [_prefilling(w) for _, w in chunk]):
                yield

    def _run(
        self, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]
    ) -> Iterator[tuple[int, RequestOutput]]:
        """Run requests on an empty cache: so how their steps round does not depend on what was run
        before. Yields the index of each and its output when it has ended: see `run`."""
        if self._caching:
            self._llm.reset_prefix_cache()
        yield from run(self._llm, prompts, params)

    def means(self, contrast: Contrast) -> dict[str, Means]:
        """Means captured of a contrast, by site; the sums start anew.

        A site that the model's layers do not show is left out.
        """
        ranks = self._llm.collective_rpc(RPC, args=("take",))
        layers = self._llm.collective_rpc(RPC, args=("layers",))
        # Tensor-parallel ranks have the same residual stream; pipeline stages their own layers.
        stages = {tuple(held): load(content) for held, content in zip(layers, ranks, strict=True)}
        found = {
            name: np.concatenate([stages[held][name] for held in sorted(stages)], axis=1)
            for name in ("sums", "norms", "squares")
        }
        samples = np.array([len(contrast.plus), len(contrast.minus)])
        return {
            site: _means(
                found["sums"][index], found["norms"][index], found["squares"][index], samples
            )
            for index, site in enumerate(SITES)
            if found["norms"][index].any()
        }

    def head_inputs(self, contrast: Contrast) -> NDArray[np.float64]:
        """Inputs of the output projections, by attention head; the sums start anew.

        Returns:
            Means over a contrast that has been captured, [layers, SIDES, heads, head_dim]; 0 on a
            side without samples.

        Raises:
            DirectionError: The model's heads cannot be told apart.

        """
        ranks = self._llm.collective_rpc(RPC, args=("take",))
        layers = self._llm.collective_rpc(RPC, args=("layers",))
        columns = self._llm.collective_rpc(RPC, args=("columns",))
        stages: dict[tuple[int, ...], NDArray[np.float64]] = {}
        for held, fields, content in zip(layers, columns, ranks, strict=True):
            if isinstance(fields, str):
                raise DirectionError(fields, field="model")
            own = Columns(**fields)
            stage = stages.setdefault(tuple(held), np.zeros((len(held), SIDES, own.total)))
            stage[..., own.start : own.start + own.size] = load(content)["inputs"]
        sums = np.concatenate([stages[held] for held in sorted(stages)])
        samples = np.maximum([len(contrast.plus), len(contrast.minus)], 1)
        means: NDArray[np.float64] = sums / samples[:, None]
        return means.reshape(*means.shape[:2], -1, own.head_dim)


def describe(model: str) -> tuple[Model, Path]:
    """A model by its configuration alone, and its directory.

    Args:
        model: A built-in model, a Hugging Face id or a directory.

    Raises:
        steersman.arguments.ArgumentError: There is no such directory.
        steersman.models.ModelError: The built-in model cannot be had.

    """
    config = EngineArgs.from_cli_args(parse([model])).create_model_config()
    return describe_model(config, (model,)), _directory(config)


def _directory(config: Any) -> Path:
    path = Path(config.model)
    if path.exists():
        return path
    return Path(
        snapshot_download(config.model, revision=config.revision, ignore_patterns=_NOT_FETCHED)
    )


_PREFILLING = SamplingParams(max_tokens=1, temperature=0, detokenize=False, skip_clone=True)


def _prefilling(weights: NDArray[np.float32]) -> SamplingParams:
    """Parameters of a request that is only captured: its weights are [SIDES, tokens]."""
    params = copy(_PREFILLING)  # to make one takes as long as all else that a request needs here
    params.extra_args = {KEY: RequestMessage(weights=weights.tobytes())}
    return params


def _by_sample(contrast: Contrast) -> list[tuple[tuple[int, ...], NDArray[np.float32]]]:
    """Each sample once: its tokens, and their weights on both sides, [SIDES, tokens]."""
    sides: dict[int, list[Weighted | None]] = {}
    for side, weighted in enumerate((contrast.plus, contrast.minus)):
        for chosen in weighted:
            sides.setdefault(id(chosen.sample), [None] * SIDES)[side] = chosen
    samples = []
    for pair in sides.values():
        tokens = max((chosen.tokens for chosen in pair if chosen is not None), key=len)
        weights = np.zeros((SIDES, len(tokens)), np.float32)
        for row, one in zip(weights, pair, strict=True):
            if one is not None:
                row[: len(one.weights)] = one.weights
        samples.append((tokens, weights))
    return samples


def _means(
    sums: NDArray[np.float64],
    norms: NDArray[np.float64],
    squares: NDArray[np.float64],
    samples: NDArray[np.int64],
) -> Means:
    means = sums / samples[:, None]  # [layers, sides, hidden_size]
    direction = means[:, 0] - means[:, 1]
    # Of each side: the trace of the tokens' covariance.
    variance = squares / samples - np.square(means).sum(axis=2)
    spread = np.sqrt(variance.mean(axis=1))
    return Means(
        direction.astype(np.float32),
        (norms / samples).mean(axis=1),
        np.linalg.norm(direction, axis=1) / spread,
    )
