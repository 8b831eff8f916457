"""Configurations under which a vector would land on another token."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from vllm.config import KVTransferConfig, VllmConfig

from steersman.engine.compat.config import unsupported
from steersman.engine.compat.layers import UnsupportedModelError, decoder_layers


def expert_parallel(config: VllmConfig) -> None:
    config.parallel_config.tensor_parallel_size = 2
    config.parallel_config.data_parallel_size = 2
    config.parallel_config.enable_expert_parallel = True


def hyper_connections(config: VllmConfig) -> None:
    config.parallel_config.tensor_parallel_size = 2
    config.parallel_config.enable_hc_sp = True


def fast_prefill(config: VllmConfig) -> None:
    config.cache_config.kv_sharing_fast_prefill = True


def connector(config: VllmConfig) -> None:
    config.kv_transfer_config = KVTransferConfig(
        kv_connector="LMCacheConnectorV1", kv_role="kv_both"
    )


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (expert_parallel, "sequence parallelism: .*expert, tensor and data parallelism"),
        (hyper_connections, "sequence parallelism: .*--enable-hc-sp"),
        (fast_prefill, "fast prefill: .*tokens of a prompt"),
        (connector, "KV connector: LMCacheConnectorV1"),
    ],
)
def test_what_cannot_be_steered_rightly(setting: Callable[[VllmConfig], None], reason: str) -> None:
    config = VllmConfig()
    assert unsupported(config) is None
    setting(config)
    assert re.match(reason, unsupported(config) or "")


@pytest.mark.parametrize("option", ["tensor_parallel_size", "enable_hc_sp"])
def test_one_of_them_alone_can(option: str) -> None:
    config = VllmConfig()
    setattr(config.parallel_config, option, {"tensor_parallel_size": 2}.get(option, True))
    assert unsupported(config) is None


class Model(nn.Module):
    """A model of two decoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])


class Config:
    """As much of vLLM's model configuration as the search for layers asks."""

    def get_total_num_hidden_layers(self) -> int:
        return 2


@pytest.mark.parametrize("name", ["use_sequence_parallel", "use_attn_reduce_scatter_for_moe"])
def test_a_layer_that_says_that_it_has_a_part_of_the_batch(name: str) -> None:
    model, config = Model(), Config()
    layers: Any = model.layers
    setattr(layers[1], name, False)
    assert list(decoder_layers(model, config)) == [0, 1]
    setattr(layers[1], name, True)
    with pytest.raises(UnsupportedModelError, match=f"layer 1 of Model .{name}"):
        decoder_layers(model, config)
