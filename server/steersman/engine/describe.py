"""What the engine's configuration says about the model, as capabilities."""

from typing import Any

from vllm.engine.protocol import EngineClient

from steersman.capabilities import Capabilities, Limits, Model
from steersman.trajectory.phases import Markers


def describe(engine: EngineClient, names: tuple[str, ...], limits: Limits) -> Capabilities:
    """Describe a running engine.

    Args:
        engine: vLLM's engine client.
        names: Names under which the model is served.
        limits: The server's limits.

    """
    config = engine.model_config
    sampling: dict[str, Any] = config.get_diff_sampling_param()
    return Capabilities(
        model=describe_model(config, names),
        thinking_tokens=markers_of(engine.vllm_config, engine.renderer.get_tokenizer()),
        greedy_by_default=sampling.get("temperature") == 0,
        grammar_in_thinking=engine.vllm_config.structured_outputs_config.enable_in_reasoning,
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


def markers_of(vllm_config: Any, tokenizer: Any) -> Markers | None:
    """The markers that vLLM's reasoning parser for this model knows; None without a parser."""
    reasoning = vllm_config.reasoning_config
    if reasoning is None or not reasoning.enabled:
        return None
    start = tuple(reasoning.reasoning_start_token_ids)
    end = tuple(reasoning.natural_reasoning_end_token_ids)
    return Markers(
        start=start,
        end=end,
        start_text=tokenizer.decode(start, skip_special_tokens=False),
        end_text=tokenizer.decode(end, skip_special_tokens=False),
    )


def closing_tokens(vllm_config: Any) -> tuple[int, ...]:
    """What is put in to close the thinking phase: vLLM's `reasoning_end_str`.

    It ends in the parser's own marker, and may begin with a phrase that leads over to the answer.
    """
    return tuple(vllm_config.reasoning_config.reasoning_end_token_ids)


def stop_tokens(config: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens each of which ends a response: the tokenizer's, and the generation config's."""
    named = config.try_get_generation_config().get("eos_token_id")
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return tuple(sorted(ids))
