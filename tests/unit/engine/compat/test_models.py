"""`/v1/models` with further names in it."""

import asyncio
from typing import Any

from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ModelCard

from steersman.app import _list_profiles
from steersman.profiles import Profile


class Engine:
    """As much of vLLM's engine client as its list of models asks."""

    def __getattr__(self, _name: str) -> Any:
        return self

    max_model_len = 7


def test_each_served_name_is_listed_with_each_profile() -> None:
    paths = [BaseModelPath(name=name, model_path="m") for name in ("a", "b")]
    models = OpenAIServingModels(Engine(), paths)
    models.lora_requests = {}
    profiles = dict.fromkeys(("quick", "deep"), Profile)

    def listed() -> list[ModelCard]:
        cards: list[ModelCard] = asyncio.run(models.show_available_models()).data
        return cards

    assert [card.id for card in listed()] == ["a", "b"]
    _list_profiles(models, ("a",), profiles)
    assert [card.id for card in listed()] == ["a", "b", "a:quick", "a:deep"]
    assert {card.max_model_len for card in listed()} == {7}
