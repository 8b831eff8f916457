"""The forward pass that is running."""

from vllm.forward_context import get_forward_context, is_forward_context_available


def batch_tokens() -> int | None:
    """Tokens of the batch of the running forward pass, padding included; None outside of one, or
    where vLLM does not say."""
    if not is_forward_context_available():
        return None
    batch = get_forward_context().batch_descriptor
    return None if batch is None else int(batch.num_tokens)
