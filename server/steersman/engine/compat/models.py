"""vLLM's list of models, as its `/v1/models` shows it."""

from collections.abc import Callable
from typing import Any


def list_more(models: Any, more: Callable[[list[Any]], list[Any]]) -> None:
    """Have the list end in further models.

    Args:
        models: vLLM's `OpenAIServingModels`.
        more: Makes these from vLLM's own list: `ModelCard`s.

    """
    plain = models.show_available_models

    async def show() -> Any:
        listed = await plain()
        listed.data += more(listed.data)
        return listed

    models.show_available_models = show
