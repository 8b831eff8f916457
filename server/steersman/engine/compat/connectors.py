"""KV connectors of vLLM that keep blocks with different steering apart.

A steered block holds other keys and values than an unsteered one of the same tokens, and so does
one from before a change of the weights. vLLM's own prefix cache tells them apart by our part of the
block hashes, and is emptied when weights change. A connector must do no less.
"""

from collections.abc import Mapping
from typing import Any

_OFFLOADING = "OffloadingConnector"
_SEVERAL = "MultiConnector"

_ALLOWED = frozenset(
    {
        # By block hash, in memory of this engine, emptied along with the prefix cache.
        _OFFLOADING,
        "SimpleCPUOffloadConnector",
        # One request's blocks to one other engine, by the request: nothing is looked up.
        "NixlConnector",
        "NixlPullConnector",
        "NixlPushConnector",
        "MoRIIOConnector",
        "MooncakeConnector",
    }
)

_BY_TOKENS = "it finds blocks by their tokens alone, and would hand steered ones to other requests"
_REFUSED = {
    "LMCacheConnectorV1": _BY_TOKENS,
    "LMCacheMPConnector": _BY_TOKENS,
    "HF3FSKVConnector": _BY_TOKENS,
    "ExampleConnector": _BY_TOKENS,
    # Of earlier versions of vLLM.
    "SharedStorageConnector": _BY_TOKENS,
    "MooncakeStoreConnector": "other engines share its blocks, whose weights need not be edited as "
    "this one's are",
    "DecodeBenchConnector": "its blocks belong to no prompt",
}
_UNKNOWN = "Steersman does not know by what it finds blocks"

_KEPT_SPECS = frozenset({"CPUOffloadingSpec", "TieringOffloadingSpec"})


def refusal(transfer: Any) -> str | None:
    """Reason why a KV connector cannot be used with steering; None if it can, or there is none.

    Args:
        transfer: vLLM's `KVTransferConfig`, or None.

    """
    if transfer is None or transfer.kv_connector is None:
        return None
    extra = transfer.kv_connector_extra_config or {}
    return _refusal(transfer.kv_connector, extra, transfer.kv_connector_module_path)


def _refusal(name: str, extra: Mapping[str, Any], module_path: str | None) -> str | None:
    if module_path is not None:  # a class of that module then, whatever its name
        return f"{name} of {module_path}: {_UNKNOWN}"
    if name == _SEVERAL:
        parts = extra.get("connectors") or ()
        found = (
            _refusal(
                part.get("kv_connector") or "",
                part.get("kv_connector_extra_config") or {},
                part.get("kv_connector_module_path"),
            )
            for part in parts
        )
        return next((reason for reason in found if reason is not None), None)
    if name == _OFFLOADING:
        if extra.get("spec_name", "CPUOffloadingSpec") not in _KEPT_SPECS:
            return f"{name} with {extra['spec_name']}: {_UNKNOWN}"
        if extra.get("secondary_tiers"):
            return f"{name} with secondary tiers: they keep blocks when the weights are edited"
    return None if name in _ALLOWED else f"{name}: {_REFUSED.get(name, _UNKNOWN)}"
