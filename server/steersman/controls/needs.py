"""Needs of searches and samplers, checked against a request and the server."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from steersman.changes import LOST, NEUTRAL
from steersman.controls.control import Arrived, Planning, UnplannedError
from steersman.controls.thinking import ThinkingPart
from steersman.errors import ControlError
from steersman.needs import Need


def check(needs: Set[Need], method: str, field: str, planning: Planning) -> None:
    """Refuse a request that cannot give a method all that it needs.

    Args:
        needs: Its needs.
        method: Its name.
        field: The field of `control` that chooses it.
        planning: The request, with the controls that were planned before.

    Raises:
        ControlError: It cannot.

    """
    request, capabilities = planning.request, planning.capabilities
    greedy = request.temperature == 0 or (
        request.temperature is None and capabilities.greedy_by_default
    )
    if Need.SAMPLING in needs and greedy:
        raise ControlError(
            f"{method} needs sampling: at temperature 0 all that it compares is the same",
            param="temperature",
        )
    if needs & {Need.RAW, Need.PROCESSED} and capabilities.steering is None:
        raise ControlError(
            f"{method} needs the engine's measurements: it was started with --no-steering",
            param=f"control.{field}",
        )
    if Need.EXACT in needs:
        _check_exact(method, planning)
    if Need.FORKS in needs:
        _check_thinking(method, planning.part(ThinkingPart))
    for changed, reason in _ruled_out(needs, method, request.changes):
        mend = f"leave out {changed}"
        if (default := capabilities.defaults.get(changed)) is not None:
            mend = f"set it to {NEUTRAL[changed]} (by default it is {default:g} here)"
        raise ControlError(f"{reason}: {mend}", param=changed)


def wire(needs: Set[Need]) -> Mapping[str, Any]:
    """The fields of the message to the engine by which a method gets its measurements."""
    asked = {"measured": Need.RAW in needs, "processed": Need.PROCESSED in needs}
    return {name: True for name, wanted in asked.items() if wanted}


def check_arrived(needs: Set[Need], method: str, arrived: Arrived) -> None:
    """Refuse an engine call that cannot give a method all that it needs.

    Raises:
        UnplannedError: It cannot.

    """
    if Need.SAMPLING in needs and arrived.temperature == 0:
        raise UnplannedError(
            "temperature", f"{method} needs sampling, and the temperature is 0 by default"
        )
    for field, reason in _ruled_out(needs, method, arrived.changes):
        raise UnplannedError(field, f"{reason}: it is set by this server")


def _ruled_out(needs: Set[Need], method: str, changes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The changes that a method cannot stand, each with the reason."""
    for field in changes:
        if Need.EXACT in needs:
            yield field, f"{method} needs the model's own distribution, which {field} changes"
        elif Need.FORKS in needs and field in LOST:
            yield (
                field,
                f"{method} goes on from tokens in new engine requests, and {field} {LOST[field]}",
            )


def _check_exact(method: str, planning: Planning) -> None:
    spec = planning.spec
    changed = {"sampler": spec.sampler, "thinking": spec.thinking}
    for name, value in changed.items():
        if value is not None:
            raise ControlError(
                f"{method} needs the model's own distribution, which control.{name} changes: "
                "leave out one of the two",
                param=f"control.{name}",
            )
    if planning.request.truncated:
        raise ControlError(
            f"{method} draws from whole distributions: leave out {planning.request.truncated}",
            param=planning.request.truncated,
        )


def _check_thinking(method: str, thinking: ThinkingPart | None) -> None:
    if thinking is None:
        return
    governing = thinking.governing
    held: dict[str, Any] = {
        "exit": governing.window,
        "balance": governing.law,
        "certainty": governing.probing,
    }
    for name, value in held.items():
        if value:
            raise ControlError(
                f"{method} goes on from tokens in new engine requests, which do not know what "
                f"thinking.{name} has measured: leave out one of the two",
                param=f"control.thinking.{name}",
            )
