"""The one place where a request's control is checked: a plan, or one clear error.

Everything here runs before the engine hears of the request. Past this point nothing is re-checked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steersman import schema
from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.profiles import Profile, ProfileError, merge
from steersman.request import Endpoint, Request
from steersman.steering import plan as steering
from steersman.steering.plan import Edits, Steering, Vectors, thinking_markers
from steersman.thinking import plan as thinking
from steersman.thinking.governing import Governing
from steersman.thinking.plan import Encode
from steersman.trajectory.phases import Markers
from steersman_client import ControlSpec, FirstFinish, Monitor, Thinking

_HOW_TO_START = {
    "thinkedit": ": start it with --edits or --edit-rows",
    "thinking": ": it was started with --no-steering",
    "monitor": ": it was started with --no-steering",
}
"""Parts of a control that a server can do if it is started for them."""

MOST_STOPS = 48
"""Stop tokens of a request's own that the governor can know beside the model's."""

_ANY = Request(Endpoint.CHAT)


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked control of one request, resolved against the server.

    Attributes:
        profile: The profile that it builds on.
        steering: What is added to the residual stream; None for nothing.
        search: The search to run for each prompt; None for a plain generation.
        prompts: Prompts of the request.
        max_tokens: Tokens that the whole request may sample.
        governing: How its thinking phase is governed; None for not at all.
        monitor: What is reported of the entropy; None for nothing.
        markers: The model's thinking markers; None for a model without a thinking phase.
        request: The facts that it was made from.

    """

    profile: str | None
    steering: Steering | None
    search: FirstFinish | None
    prompts: int
    max_tokens: int
    governing: Governing | None = None
    monitor: Monitor | None = None
    markers: Markers | None = None
    request: Request = _ANY

    def branches(self, choices: int) -> int:
        """Engine requests for one prompt of which `choices` responses are returned."""
        return self.search.n if self.search else choices

    @property
    def method(self) -> str:
        """The label of this plan in metrics."""
        return self.search.method if self.search else "plain"


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans requests for one server.

    Attributes:
        capabilities: What the server can do, and its limits.
        profiles: The presets it keeps.
        vectors: The steering vectors it keeps.
        edits: The edits that requests can choose; None on a server without rows for them.
        encode: The model's tokens of a text, without special tokens around it.

    """

    capabilities: Capabilities
    profiles: Mapping[str, Profile]
    vectors: Vectors
    edits: Edits | None = None
    encode: Encode = field(kw_only=True)

    def plan(self, control: object, request: Request, *, profile_suffix: str | None = None) -> Plan:
        """Check one request.

        Args:
            control: The request's `control` field as it came, None if absent.
            request: The facts of the rest of the body.
            profile_suffix: The profile named by the model suffix, if any.

        Raises:
            ControlError: The request cannot be served as asked.

        """
        spec = self._spec({} if control is None else schema.fields(control), profile_suffix)
        self._refuse_unsupported(spec)
        self._refuse_conflicts(request)
        if spec.search is not None:
            assert isinstance(spec.search, FirstFinish)
            self._check_first_finish(spec.search, request)
        if spec.thinking is not None:
            self._check_thinking(spec.thinking, spec.search, request)
        self._refuse_embeddings(spec, request)
        governing, balance = thinking.plan(
            spec.thinking, self.capabilities, self.encode, self.vectors
        )
        if governing is not None:
            self._check_allowed(governing, request)
        law = governing.law if governing else None
        plan = Plan(
            profile=spec.profile,
            steering=steering.plan(
                spec.steer,
                self.vectors,
                self.capabilities,
                spec.thinkedit,
                self.edits,
                balance,
                law.digest if law else None,
            ),
            search=spec.search,
            prompts=request.prompts,
            max_tokens=self.capabilities.limits.max_control_tokens,
            governing=governing,
            monitor=spec.monitor,
            markers=self.capabilities.thinking_tokens,
            request=request,
        )
        self._check_limits(plan, request)
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
        methods = self.capabilities.methods
        asked = {
            "steer": spec.steer,
            "thinkedit": spec.thinkedit,
            "thinking": spec.thinking,
            "monitor": spec.monitor,
            "sampler": spec.sampler,
        }
        for part, value in asked.items():
            if value and not getattr(methods, part):
                raise ControlError(
                    f"{part} is not supported by this server{_HOW_TO_START.get(part, '')}",
                    param=f"control.{part}",
                )
        if spec.search is not None and spec.search.method not in methods.search:
            raise ControlError(
                f"search method {spec.search.method!r} is not supported by this server; "
                f"it has: {_names(methods.search)}",
                param="control.search.method",
            )

    def _refuse_conflicts(self, request: Request) -> None:
        if request.beam_search:
            raise ControlError(
                "beam search bypasses the controls of this server: leave out control or "
                "use_beam_search",
                param="use_beam_search",
            )
        if request.background:
            raise ControlError(
                "a background response has ended its HTTP request before the receipt is known: "
                "leave out control or background",
                param="background",
            )

    def _check_first_finish(self, search: FirstFinish, request: Request) -> None:
        if search.k > search.n:
            raise ControlError(f"k ({search.k}) is above n ({search.n})", param="control.search.k")
        if search.k > 1 and request.choices > 1:
            raise ControlError(
                f"k = {search.k} votes for one answer, so n must be 1, not {request.choices}",
                param="control.search.k",
            )
        if request.choices > search.n:
            raise ControlError(
                f"n asks for {request.choices} choices of {search.n} siblings", param="n"
            )
        greedy = self.capabilities.greedy_by_default
        if search.n > 1 and (request.temperature == 0 or (request.temperature is None and greedy)):
            raise ControlError(
                "first_finish needs sampling: at temperature 0 all siblings are the same",
                param="temperature",
            )
        if search.min_thinking:
            markers = self.capabilities.thinking_tokens
            thinking_markers("min_thinking", markers, "control.search.min_thinking")
        chunks_of_one_prompt = request.endpoint is not Endpoint.RESPONSES and request.prompts == 1
        if search.stream_leader and request.stream and not chunks_of_one_prompt:
            raise ControlError(
                "stream_leader works on chat completions, and on completions of one prompt",
                param="control.search.stream_leader",
            )

    def _check_thinking(
        self, governed: Thinking, search: FirstFinish | None, request: Request
    ) -> None:
        if request.thinking_token_budget:
            raise ControlError(
                "thinking_token_budget is vLLM's own budget: leave it out, or control.thinking",
                param="thinking_token_budget",
            )
        if request.grammar is not None and self.capabilities.grammar_in_thinking:
            part = ".budget" if governed.budget is not None else ""
            raise ControlError(
                f"{request.grammar} is a grammar, which binds the thinking too on this server "
                "(enable_in_reasoning), so that nothing can close it: leave out control.thinking "
                f"or {request.grammar}",
                param=f"control.thinking{part}",
            )
        if request.grammar is not None and not request.include_reasoning:
            raise ControlError(
                f"{request.grammar} is a grammar, which without include_reasoning binds the "
                "response from its first token on, so that nothing can close the thinking: leave "
                f"out control.thinking, {request.grammar} or include_reasoning",
                param="include_reasoning",
            )
        if request.stop_token_ids > MOST_STOPS:
            raise ControlError(
                f"{request.stop_token_ids} tokens end this response: beside control.thinking it "
                f"may be up to {MOST_STOPS}",
                param="stop_token_ids",
            )
        if search is None or governed.budget is None:
            return
        most = governed.budget + governed.grace
        if search.min_thinking > most:
            raise ControlError(
                f"min_thinking ({search.min_thinking}) is above the {most} tokens of "
                "control.thinking's budget and grace: no sibling could win",
                param="control.search.min_thinking",
            )

    def _check_allowed(self, governing: Governing, request: Request) -> None:
        allowed, markers = request.allowed_token_ids, self.capabilities.thinking_tokens
        if allowed is None or markers is None:
            return
        for what, tokens in (("the end marker", markers.end), ("the nudge", governing.nudge)):
            if missing := sorted({*tokens} - allowed):
                raise ControlError(
                    f"control.thinking may put {what} into the response, whose tokens {missing} "
                    "are not allowed: add them, or leave out control.thinking or allowed_token_ids",
                    param="allowed_token_ids",
                )

    def _refuse_embeddings(self, spec: ControlSpec, request: Request) -> None:
        reads_tokens = spec.steer or spec.thinkedit or spec.thinking or spec.monitor
        if reads_tokens and request.embeddings:
            raise ControlError(
                "steering, edits, thinking and monitor need prompts of tokens, not of embeddings",
                param="prompt_embeds",
            )

    def _check_limits(self, plan: Plan, request: Request) -> None:
        limits = self.capabilities.limits
        branches = plan.branches(request.choices) * plan.prompts
        param = "control.search.n" if plan.search else "n"
        if branches > limits.max_branches:
            prompts = f" for {request.prompts} prompts" if request.prompts > 1 else ""
            raise ControlError(
                f"{branches} branches{prompts} are over this server's limit of "
                f"{limits.max_branches} a request",
                param=param,
            )
        if request.max_tokens is not None:
            tokens = branches * min(request.max_tokens, self.capabilities.model.max_model_len)
            if tokens > limits.max_control_tokens:
                raise ControlError(
                    f"{branches} branches of {request.max_tokens} tokens are over this server's "
                    f"limit of {limits.max_control_tokens} sampled tokens a request",
                    param=request.max_tokens_field,
                )


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
