"""Shares of responses in chains on the real engine, against plain samples with weights."""

import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from steersman_client import Align, ControlSpec, Entropy, Monitor, Steersman, Target

ASKED: dict[str, Any] = {"model": "reasoner", "prompt": "8*7-4+11=", "max_tokens": 6}
AT_ONCE = 16
REQUESTS = 8
CHAINS = 4
STEPS = 32
BURN_IN = 8
ALPHA = 2.0
ONE = {"name": "verify", "data": {"regex": r"^1"}}


def begins_with_one(text: str) -> bool:
    return text.startswith("1")


def sampled(client: Steersman, count: int, **fields: Any) -> list[tuple[str, Entropy]]:
    """Plain samples, each with its track."""
    found: list[tuple[str, Entropy]] = []
    while len(found) < count:
        answer = client.completions.create(**ASKED, n=AT_ONCE, seed=10_000 + len(found), **fields)
        assert answer.control is not None
        tracks = answer.control.entropy_by_choice
        assert tracks is not None
        texts = [choice.text for choice in answer.choices]
        found.extend(zip(texts, tracks, strict=True))
    return found


def shares(client: Steersman, target: Target, holds: Callable[[str], bool]) -> list[float]:
    """Share of each chain's states of which something holds."""
    search = Align(
        method="align",
        target=target,
        steps=STEPS,
        chains=CHAINS,
        look_ahead=4,
        return_chain=True,
    )

    def walked(number: int) -> list[float]:
        answer = client.completions.create(
            **ASKED, temperature=1, seed=1000 * number, control=ControlSpec(search=search)
        )
        assert answer.control is not None
        assert answer.control.applied.search is not None
        states: dict[int, list[bool]] = {}
        for state in answer.control.applied.search.chain or ():
            if state.step >= BURN_IN:
                states.setdefault(state.chain, []).append(holds(state.text))
        assert [len(of) for of in states.values()] == [STEPS - BURN_IN] * CHAINS
        return [statistics.mean(of) for of in states.values()]

    with ThreadPoolExecutor(REQUESTS) as pool:
        return [share for of in pool.map(walked, range(REQUESTS)) for share in of]


def agree(chains: Sequence[float], wanted: float, error: float, plain: float) -> None:
    """Check that chains have a share within its interval, and that plain samples have not."""
    own = statistics.stdev(chains) / math.sqrt(len(chains))
    allowed = 3.5 * math.hypot(own, error)
    assert abs(statistics.mean(chains) - wanted) < allowed
    assert abs(plain - wanted) > allowed  # so close it tells the target from the model


def test_chains_towards_a_reward_have_the_shares_of_weighted_samples(thinker: Steersman) -> None:
    control = ControlSpec(monitor=Monitor(tokens=True))
    samples = sampled(thinker, 512, temperature=1, control=control)
    plain = statistics.mean(begins_with_one(text) for text, _ in samples)
    weight = math.exp(1 / 0.5)
    total = plain * weight + 1 - plain
    slope = weight / total**2  # of the weighted share, by the plain one
    error = slope * math.sqrt(plain * (1 - plain) / len(samples))
    target = Target.model_validate({"reward": ONE, "beta": 0.5})
    agree(shares(thinker, target, begins_with_one), plain * weight / total, error, plain)


def logprob(track: Entropy) -> float:
    """Of a whole response."""
    assert track.tokens is not None
    return math.fsum(value for _, value, _ in track.tokens if value is not None)


def test_chains_towards_a_power_have_the_shares_of_weighted_proposals(thinker: Steersman) -> None:
    drawn, raw = (
        sampled(
            thinker,
            512,
            temperature=1 / ALPHA,
            control=ControlSpec(monitor=Monitor(tokens=True, of=of)),
        )
        for of in ("processed", "raw")
    )
    assert [text for text, _ in drawn] == [text for text, _ in raw]  # the same seeds
    logs = [
        ALPHA * logprob(one) - logprob(other)
        for (_, one), (_, other) in zip(raw, drawn, strict=True)
    ]
    weights = [math.exp(one - max(logs)) for one in logs]
    assert sum(weights) ** 2 / sum(one**2 for one in weights) >= 200
    holds = [begins_with_one(text) for text, _ in raw]
    wanted = sum(w for w, one in zip(weights, holds, strict=True) if one) / sum(weights)
    off = (w * (one - wanted) for w, one in zip(weights, holds, strict=True))
    error = math.sqrt(sum(one**2 for one in off)) / sum(weights)
    unweighted = statistics.mean(holds)
    chains = shares(thinker, Target(power=ALPHA), begins_with_one)
    agree(chains, wanted, error, unweighted)
