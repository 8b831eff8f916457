"""Planning of `control.thinking`: checked, and resolved to instructions for the engine."""

from collections.abc import Callable, Sequence

from steersman.artifacts.artifact import ArtifactError
from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.steering.configuration import Term
from steersman.steering.plan import (
    PlannedTerm,
    Vectors,
)
from steersman.thinking import law as laws
from steersman.thinking.governing import Governing, Probing
from steersman.trajectory.phases import Markers, find
from steersman.wire import Law
from steersman_client import Balance, Thinking
from steersman_kernels.layout import NUDGE_TOKENS

Encode = Callable[[str], Sequence[int]]
"""The token ids of a text, without special tokens around it."""

_OTHER_LAW = {
    "proportional": ("confidence", "variance"),
    "confidence": ("target_entropy", "gain", "integral_gain"),
}
"""Fields that belong to the other law, by law."""


def plan(
    thinking: Thinking, capabilities: Capabilities, encode: Encode, vectors: Vectors
) -> tuple[Governing, PlannedTerm | None]:
    """Resolve the governor's instructions and the vector whose strength it moves, if any.

    Raises:
        ControlError: Something that cannot be done on this model, or contradicts itself.

    """
    given = [name for name in Thinking.model_fields if name in thinking.model_fields_set]
    markers = capabilities.markers(
        given[0] if given else "thinking", ".".join(("control.thinking", *given[:1]))
    )
    _check_lengths(thinking, capabilities.model.max_model_len)
    balance, law = None, None
    if thinking.balance is not None:
        if "balance" not in capabilities.methods.thinking:
            raise ControlError(
                "balance is not supported by this server: with pipeline parallelism only the last "
                "stage knows what moves the strength",
                param="control.thinking.balance",
            )
        balance, law = _balance(thinking.balance, vectors)
    governing = Governing(
        budget=thinking.budget,
        grace=thinking.grace,
        minimum=thinking.min or 0,
        nudge=_nudge(thinking, markers, encode),
        window=thinking.exit.window if thinking.exit else 0,
        entropy_below=thinking.exit.entropy_below if thinking.exit else 0.0,
        on_loop=thinking.on_loop == "close",
        min_answer=thinking.min_answer_tokens,
        law=law,
        probing=_probing(thinking),
    )
    return governing, balance


def _probing(thinking: Thinking) -> Probing | None:
    asked = thinking.certainty
    if asked is None:
        return None
    if thinking.balance is not None:
        raise ControlError(
            "certainty asks beside the thinking, where balance has no strength to go by: leave out "
            "one of them",
            param="control.thinking.certainty",
        )
    return Probing(asked.every, asked.agree, asked.max_tokens)


def _check_lengths(thinking: Thinking, longest: int) -> None:
    for name in ("budget", "min", "min_answer_tokens"):
        if (getattr(thinking, name) or 0) > longest:
            raise ControlError(
                f"{name} ({getattr(thinking, name)}) is more tokens than this model's context has: "
                f"{longest}",
                param=f"control.thinking.{name}",
            )
    if thinking.budget is None:
        if thinking.grace:
            raise ControlError(
                "grace is what may follow a budget, and there is none",
                param="control.thinking.grace",
            )
    elif thinking.min is not None and thinking.min > thinking.budget:
        raise ControlError(
            f"min ({thinking.min}) is above budget ({thinking.budget}): thinking cannot be both "
            "that long and that short",
            param="control.thinking.min",
        )


def _nudge(thinking: Thinking, markers: Markers, encode: Encode) -> tuple[int, ...]:
    param = "control.thinking.nudge"
    if thinking.min is None:
        if "nudge" in thinking.model_fields_set:
            raise ControlError(
                "nudge stands in place of an end before min, and there is no min", param=param
            )
        return ()
    nudge = tuple(encode(thinking.nudge))
    if not 1 <= len(nudge) <= NUDGE_TOKENS:
        raise ControlError(
            f"nudge {thinking.nudge!r} is {len(nudge)} tokens of this model; it may be 1 to "
            f"{NUDGE_TOKENS}",
            param=param,
        )
    marks = (markers.start, markers.end, *((token,) for token in markers.implicit))
    if any(find(nudge, mark) is not None for mark in marks):
        raise ControlError("nudge cannot have a marker of the thinking phase in it", param=param)
    return nudge


def _balance(balance: Balance, vectors: Vectors) -> tuple[PlannedTerm, Law]:
    param = "control.thinking.balance"
    try:
        vector = vectors.get(balance.vector)
    except ArtifactError as error:
        raise ControlError(error.message, param=f"{param}.vector") from error
    defaults = vector.metadata
    allowed = defaults.strength_range
    if allowed is None:
        raise ControlError(
            f"vector {balance.vector!r} has no calibrated range: `steersman directions calibrate` "
            "writes one",
            param=f"{param}.vector",
        )
    base = defaults.strength if balance.strength is None else balance.strength
    if not allowed[0] <= base <= allowed[1]:
        raise ControlError(
            f"strength {base:g} is outside the vector's range {allowed[0]:g} to {allowed[1]:g}",
            param=f"{param}.strength",
        )
    _check_law(balance, param)
    # The strength is the law's business: each token is steered by its coefficient times this one.
    term = Term(vector.digest, 1.0, defaults.layers, phase="thinking", at=defaults.at)
    return PlannedTerm(balance.vector, vector, term), laws.asked(balance, base, allowed)


def _check_law(balance: Balance, param: str) -> None:
    for name in _OTHER_LAW[balance.law]:
        if name in balance.model_fields_set and getattr(balance, name) is not None:
            raise ControlError(
                f"{name} has no place in the law {balance.law!r}", param=f"{param}.{name}"
            )
    if balance.law == "proportional" and balance.target_entropy is None:
        raise ControlError(
            "the law 'proportional' needs the entropy to hold", param=f"{param}.target_entropy"
        )
