"""The one place where a request's control is checked: a plan, or one clear error.

Everything here runs before the engine hears of the request. Past this point nothing is re-checked.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from steersman import schema
from steersman.capabilities import Capabilities
from steersman.controls.control import Control, Encode, Labels, Part, PartT, Planning
from steersman.controls.registry import CONTROLS
from steersman.errors import ControlError
from steersman.ledger import Ledger
from steersman.profiles import Profile, ProfileError, merge
from steersman.request import Endpoint, Request
from steersman.reward.rewards import Rewards
from steersman.steering.plan import Edits, Vectors
from steersman_client import Applied, AppliedEdit, ControlSpec, Limits, Receipt

PLAIN = "plain"
"""The method of a request without a search, in metrics."""
NO_PROFILE = "none"
"""The profile of a request that names none, in metrics."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked control of one request, resolved against the server.

    Attributes:
        request: The facts that it was made from.
        max_tokens: Tokens that the whole request may sample.
        profile: The profile that it builds on.
        parts: Its controls.
        spec: The control that they were planned from, with the profile in it.

    """

    request: Request
    max_tokens: int
    profile: str | None = None
    parts: tuple[Part, ...] = ()
    spec: ControlSpec = field(default_factory=ControlSpec, compare=False)

    def part(self, kind: type[PartT]) -> PartT | None:
        """The part of a control; None if the request has none of it."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def branches(self, choices: int) -> int:
        """Engine requests that run side by side for one prompt.

        Args:
            choices: Responses that are returned for it.

        """
        own = (part.branches(choices) for part in self.parts)
        return max((branches for branches in own if branches is not None), default=choices)

    @property
    def control(self) -> dict[str, Any]:
        """The fields that were set, the profile's among them, as JSON."""
        return self.spec.model_dump(mode="json", exclude_unset=True)

    @property
    def method(self) -> str:
        """The label of this plan in metrics."""
        return next((part.method for part in self.parts if part.method is not None), PLAIN)

    @property
    def labels(self) -> Labels:
        """Labels of the request in metrics."""
        return self.method, self.profile or NO_PROFILE

    @property
    def reads_tokens(self) -> bool:
        """True if it needs prompts of tokens, not of embeddings."""
        return any(part.reads_tokens for part in self.parts)

    def receipt(
        self, ledger: Ledger, edits: Iterable[AppliedEdit] = (), request_id: str | None = None
    ) -> Receipt:
        """The receipt, as of now.

        Args:
            ledger: The books of the request.
            edits: The edits that the model's weights have.
            request_id: Id of the HTTP request.

        """
        limits = ledger.limits
        applied: dict[str, Any] = {
            "profile": self.profile,
            "max_tokens": limits[0] if limits else None,
            "max_tokens_by_choice": limits if len(set(limits)) > 1 else None,
            "seeds": ledger.seeds,
            "edits": tuple(edits),
        }
        reported: dict[str, Any] = {}
        for part in self.parts:
            applied.update(part.applied(ledger))
            reported.update(part.reported(ledger))
        return Receipt(
            request_id=request_id,
            applied=Applied(**applied),
            compute=ledger.compute(),
            **reported,
        )


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans requests for one server.

    Attributes:
        capabilities: The server's methods and limits.
        profiles: The presets it keeps.
        vectors: The steering vectors it keeps.
        edits: The edits that requests can choose; None on a server without rows for them.
        encode: The model's tokens of a text, without special tokens around it.
        rewards: The rewards that it keeps.

    """

    capabilities: Capabilities
    profiles: Mapping[str, Profile]
    vectors: Vectors
    edits: Edits | None = None
    encode: Encode = field(kw_only=True)
    rewards: Rewards = field(default_factory=lambda: Rewards({}), kw_only=True)

    def plan(
        self,
        control: object,
        request: Request,
        *,
        profile_suffix: str | None = None,
        seconds: float | None = None,
    ) -> Plan:
        """Check one request.

        Args:
            control: The request's `control` field as it came, None if absent.
            request: The facts of the rest of the body.
            profile_suffix: The profile named by the model suffix, if any.
            seconds: Seconds that its client waits for it; None if it does not say. The control may
                name fewer.

        Raises:
            ControlError: The request cannot be served as asked.

        """
        spec = self._spec({} if control is None else schema.fields(control), profile_suffix)
        spec = _within(spec, seconds)
        self._refuse_unsupported(spec)
        _refuse_conflicts(request)
        planning = Planning(
            spec,
            request,
            self.capabilities,
            self.vectors,
            self.edits,
            self.encode,
            self.rewards,
        )
        for one in CONTROLS:
            if (part := one.plan(planning)) is not None:
                planning.parts.append(part)
        plan = Plan(
            request,
            self.capabilities.limits.max_control_tokens,
            spec.profile,
            tuple(planning.parts),
            spec,
        )
        if plan.reads_tokens and request.embeddings:
            raise ControlError(
                "steering, edits, thinking, monitor and samplers that fork need prompts of tokens, "
                "not of embeddings",
                param="prompt_embeds",
            )
        return plan

    def check_profiles(self) -> None:
        """Plan every profile once, so that a bad one stops the start and not a request.

        Raises:
            ProfileError: A profile that this server could not serve.

        """
        for name in self.profiles:
            try:
                self.plan({"profile": name}, Request(Endpoint.CHAT, stream=True))
            except ControlError as error:
                raise ProfileError(f"profile {name!r}: {error.param}: {error.message}") from error

    def _spec(self, control: dict[str, Any], suffix: str | None) -> ControlSpec:
        name = control.get("profile")
        if suffix is not None:
            if name is not None and name != suffix:
                raise ControlError(
                    f"the model suffix names profile {suffix!r} and control.profile {name!r}",
                    param="control.profile",
                )
            name = suffix
        if isinstance(name, str):
            if name not in self.profiles:
                raise ControlError(
                    f"unknown profile {name!r}; this server has: {_names(self.profiles)}",
                    param="control.profile",
                )
            control = {**merge(self.profiles[name].control, control), "profile": name}
        return schema.read(control)

    def _refuse_unsupported(self, spec: ControlSpec) -> None:
        for control, name in _checked():
            if getattr(spec, name) and not getattr(self.capabilities.methods, name):
                how = control.how_to_start.get(name)
                raise ControlError(
                    f"{name} is not supported by this server{f': {how}' if how else ''}",
                    param=f"control.{name}",
                )


def _within(spec: ControlSpec, seconds: float | None) -> ControlSpec:
    if seconds is None:
        return spec
    limits = spec.limits or Limits()
    if limits.max_seconds is not None:
        seconds = min(seconds, limits.max_seconds)
    limits = limits.model_copy(update={"max_seconds": seconds})
    return spec.model_copy(update={"limits": limits})


def _checked() -> Iterator[tuple[Control, str]]:
    """The fields that depend on the server's capabilities."""
    for control in CONTROLS:
        if not control.always:
            for name in control.fields:
                yield control, name


def _refuse_conflicts(request: Request) -> None:
    if request.beam_search:
        raise ControlError(
            "beam search bypasses the controls and deadlines of this server: leave out "
            "use_beam_search, or control and X-Steersman-Timeout",
            param="use_beam_search",
        )
    if request.background:
        raise ControlError(
            "a background response has ended its HTTP request before the receipt is known: "
            "leave out background, or control and X-Steersman-Timeout",
            param="background",
        )


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
