"""Only connectors that keep steered and unsteered blocks apart may stand beside steering."""

from typing import Any

import pytest
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

from steersman.engine.compat.connectors import refusal

ALLOWED = (
    "OffloadingConnector",
    "SimpleCPUOffloadConnector",
    "NixlConnector",
    "NixlPullConnector",
    "NixlPushConnector",
    "MoRIIOConnector",
    "MooncakeConnector",
)


def transfer(name: str, extra: dict[str, Any] | None = None, **more: Any) -> KVTransferConfig:
    return KVTransferConfig(
        kv_connector=name, kv_role="kv_both", kv_connector_extra_config=extra or {}, **more
    )


def several(*parts: dict[str, Any]) -> KVTransferConfig:
    return transfer("MultiConnector", {"connectors": [*parts]})


def test_no_connector_is_no_trouble() -> None:
    assert refusal(None) is None
    assert refusal(KVTransferConfig()) is None


@pytest.mark.parametrize("name", ALLOWED)
def test_by_block_hash_or_by_request(name: str) -> None:
    assert refusal(transfer(name)) is None


def test_all_others_that_vllm_has_are_refused() -> None:
    others = KVConnectorFactory._registry.keys() - {*ALLOWED, "MultiConnector"}
    assert {"LMCacheConnectorV1", "LMCacheMPConnector", "HF3FSKVConnector"} <= others
    for name in others:
        assert (refusal(transfer(name)) or "").startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transfer("LMCacheConnectorV1"), "by their tokens alone"),
        (transfer("HF3FSKVConnector"), "by their tokens alone"),
        (transfer("ExampleConnector"), "by their tokens alone"),
        (transfer("MooncakeStoreConnector"), "other engines share its blocks"),
        (transfer("SomethingNew"), "does not know"),
        (transfer("NixlConnector", kv_connector_module_path="my.own"), "does not know"),
        (transfer("OffloadingConnector", {"spec_name": "MySpec"}), "MySpec"),
        (
            transfer(
                "OffloadingConnector",
                {"spec_name": "TieringOffloadingSpec", "secondary_tiers": [{"type": "fs"}]},
            ),
            "secondary tiers",
        ),
    ],
)
def test_what_would_mix_blocks(config: KVTransferConfig, reason: str) -> None:
    assert reason in (refusal(config) or "")


def test_several_are_judged_by_their_parts() -> None:
    good = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    offloading = {"kv_connector": "OffloadingConnector", "kv_connector_extra_config": {}}
    bad = {"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both"}
    assert refusal(several(good, offloading)) is None
    assert (refusal(several(good, bad)) or "").startswith("LMCacheMPConnector: ")
    nested = {"kv_connector": "MultiConnector", "kv_connector_extra_config": {"connectors": [bad]}}
    assert (refusal(several(good, nested)) or "").startswith("LMCacheMPConnector: ")
    assert "my.own" in (refusal(several(good | {"kv_connector_module_path": "my.own"})) or "")
    assert refusal(several(good, {})) is not None
