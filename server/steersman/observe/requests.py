"""Log line of each request that has a control, at its end. It has nothing of prompt or answer."""

import logging
from typing import Any

from steersman.errors import ControlError
from steersman.scope import ControlScope

logger = logging.getLogger(__name__)

_LONGEST_FIELD = 100
"""Characters of a field's path: a client may make one up."""


def log_end(control: ControlScope, outcome: str, status: int) -> None:
    """Log a request that has run.

    Args:
        control: The request.
        outcome: ok, refused, error or disconnected.
        status: HTTP status of its answer; 0 if there was none.

    """
    if logger.isEnabledFor(logging.INFO):
        logger.info("request ended", extra={"fields": _fields(control, outcome, status)})


def log_refusal(request_id: str, error: ControlError, key: str | None = None) -> None:
    """Log a request that was refused before anything ran.

    Args:
        request_id: Its id.
        error: The reason.
        key: Name of its key, if it is refused for that.

    """
    fields = {"request_id": request_id, "outcome": "refused", "status": error.status}
    if key is not None:
        fields["key"] = key
    if error.param is not None:
        fields["param"] = error.param[:_LONGEST_FIELD]
    logger.info("request refused", extra={"fields": fields})


def _fields(control: ControlScope, outcome: str, status: int) -> dict[str, Any]:
    plan, ledger = control.plan, control.ledger
    method, profile = plan.labels
    compute = ledger.spent(answered=outcome == "ok")
    fields = {
        "request_id": control.request_id,
        "trace_id": control.span.trace_id,
        "endpoint": str(plan.request.endpoint),
        "stream": plan.request.stream,
        "method": method,
        "profile": profile,
        "outcome": outcome,
        "status": status,
        "seconds": round(compute.wall_ms / 1e3, 3),
        "first_token_seconds": _rounded(ledger.first_token_seconds),
        "first_answer_token_seconds": _rounded(ledger.first_answer_seconds),
        "branches": len(ledger.branches),
        "sampled_tokens": compute.sampled_tokens,
        "returned_tokens": compute.returned_tokens,
        "cancelled_tokens": compute.cancelled_tokens,
        "lost_tokens": compute.lost_tokens,
        "sequential_tokens": compute.sequential_tokens,
        "prefill_tokens": compute.prefill_tokens,
        "reward_calls": compute.reward_calls or None,
        "stopped_by": ledger.stopped_by,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
