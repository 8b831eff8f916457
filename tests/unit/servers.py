"""Small values that many unit tests build on."""

from steersman.capabilities import Capabilities, Limits, Methods, Model, Steering
from steersman.plan import Planner
from steersman.profiles import Profile
from steersman.steering.plan import NoVectors
from steersman.trajectory.phases import Markers

MODEL = Model(
    names=("tiny", "org/tiny:v2"),
    architecture="TinyForCausalLM",
    hidden_size=8,
    layers=2,
    vocabulary=32,
    max_model_len=512,
)
MARKERS = Markers(start=(1,), end=(2,), start_text="<think>", end_text="</think>")
PROFILES = {
    "fast": Profile(control={"search": {"method": "first_finish", "n": 3, "min_thinking": 2}}),
    "plain": Profile(description="Nothing.", control={}),
}


def planner(
    *,
    thinking: bool = True,
    greedy: bool = False,
    limits: Limits | None = None,
    profiles: dict[str, Profile] | None = None,
    methods: Methods | None = None,
    measuring: bool = False,
    defaults: dict[str, float] | None = None,
) -> Planner:
    """A planner for a made-up server, whose engine may measure what it draws."""
    steering = Steering(rows=8, bytes=0, runner="V1", model_digest="") if measuring else None
    capabilities = Capabilities(
        model=MODEL,
        thinking_tokens=MARKERS if thinking else None,
        greedy_by_default=greedy,
        defaults=defaults or {},
        steering=steering,
        methods=methods or Methods(search=("first_finish",)),
        limits=limits or Limits(max_branches=8, max_control_tokens=1000),
    )
    presets = PROFILES if profiles is None else profiles
    return Planner(capabilities, presets, NoVectors(), encode=encode)


def encode(text: str) -> list[int]:
    """The made-up server's tokenizer: a token a character."""
    return [ord(character) for character in text]
