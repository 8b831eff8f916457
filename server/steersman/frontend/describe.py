"""Capabilities read from the engine's configuration of the model."""

from typing import Any

from vllm.engine.protocol import EngineClient

from steersman.capabilities import Capabilities, Limits, Methods, Model
from steersman.sampling.registry import samplers
from steersman.search.registry import policies
from steersman.trajectory.phases import Markers


def describe(
    engine: EngineClient, markers: Markers | None, names: tuple[str, ...], limits: Limits
) -> Capabilities:
    """Describe a running engine.

    Args:
        engine: vLLM's engine client.
        markers: Markers of the model's thinking phase.
        names: Names under which the model is served.
        limits: The server's limits.

    """
    config = engine.model_config
    sampling: dict[str, Any] = config.get_diff_sampling_param()
    return Capabilities(
        model=describe_model(config, names),
        thinking_tokens=markers,
        greedy_by_default=sampling.get("temperature") == 0,
        defaults=sampling,
        grammar_in_thinking=engine.vllm_config.structured_outputs_config.enable_in_reasoning,
        methods=Methods(sampler=tuple(samplers()), search=tuple(policies())),
        limits=limits,
    )


def describe_model(config: Any, names: tuple[str, ...]) -> Model:
    """A model, from vLLM's configuration of it and the names under which it is served."""
    return Model(
        names=names,
        architecture=config.architecture,
        hidden_size=config.get_hidden_size(),
        layers=config.get_total_num_hidden_layers(),
        vocabulary=config.get_vocab_size(),
        max_model_len=config.max_model_len,
    )
