"""The governor between a runner's logits and its sampler, on made-up steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm import SamplingParams

from steersman.controls.control import Part
from steersman.engine.batch import Arrival, Batch
from steersman.engine.governor import Governor
from steersman.frontend.unplanned import unplanned
from steersman.thinking.governing import Governing, Probing
from steersman.wire import Law
from steersman_kernels.layout import (
    REASONS,
    T_CLOSED_BY,
    T_CONFIDENCE,
    T_ENTROPY,
    T_FORCED,
    T_LOGPROB,
    T_PROCESSED_ENTROPY,
    T_PROCESSED_LOGPROB,
    T_TOP,
)
from steersman_kernels.vocabulary import Vocabulary

SIZE = 13
START, END, STOP, NEWLINE, CALL = 8, 9, 10, 11, 12
PROMPT = 3
LAW = Law("proportional", 0.2, 1.0, 0.0, 0.5, 0.0, 1.0, (0.6, 0.9), (0.001, 0.01))


class Asks(Part):
    """A control that asks for one measurement."""

    def __init__(self, field: str) -> None:
        self.field = field

    def wire(self, origin: int) -> Mapping[str, Any]:
        return {self.field: True}


class Engine:
    """Steps of a batch, each request's tokens given.

    Attributes:
        governor: What is tested.
        known: All tokens of each request.

    """

    def __init__(self, capacity: int = 4) -> None:
        self.governor = Governor(capacity, torch.device("cpu"), torch.float32)
        boundary = bytes(int(token == NEWLINE) for token in range(SIZE))
        self.governor.arm(Vocabulary.of([START], [END], [CALL], [END], boundary))
        self.known: dict[str, list[int]] = {}
        self.random = torch.Generator().manual_seed(0)

    def arrive(
        self,
        name: str,
        governing: Governing | None = None,
        *,
        monitored: bool = True,
        begun: bool = False,
        asks: Sequence[str] = (),
        greedy: bool = False,
    ) -> None:
        """A request comes, or comes back. It asks for measurements by their field."""
        self.known.setdefault(name, [0] * PROMPT)
        carrier = unplanned(
            governing=governing,
            monitored=monitored,
            origin=PROMPT,
            opened=True,
            begun=len(self.known[name]) - PROMPT if begun else 0,
            stops=[STOP],
            longest=100,
        )
        parts = (*carrier.parts, *(Asks(field) for field in asks))
        wire = replace(carrier, parts=parts).wire(name, SamplingParams(max_tokens=60))
        self.governor.arrive(Arrival(name, wire, self.known[name], 0, greedy))

    def step(
        self, drawn: dict[str, int], *, read: int | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One step of a batch; `read` cuts what is read of each request short.

        Returns:
            What is said of each watched token, and the raw logits.

        """
        names = list(drawn)
        ends = [len(self.known[name]) if read is None else read for name in names]
        positions = torch.cat([torch.arange(end) for end in ends])
        starts = torch.tensor([0, *ends]).cumsum(0).int()
        tokens = torch.cat(
            [torch.tensor(self.known[n][:e]) for n, e in zip(names, ends, strict=True)]
        )
        self.governor.begin(Batch(names, starts, positions, tokens.int(), len(tokens)))
        logits = torch.randn(len(names), SIZE, generator=self.random) * 3
        raw = logits.clone()
        self.governor.observe(logits, keep=True)
        logits.mul_(7)  # as a temperature does
        self.governor.forbid(logits)
        if self.governor.processing:
            logits[:, : SIZE // 2] = -torch.inf  # as top-k does
            self.governor.process(logits)
        sampled = torch.tensor([*drawn.values()])
        self.governor.govern(sampled)
        if read is None:
            for name, token in zip(names, sampled.tolist(), strict=True):
                self.known[name].append(token)
        watched, track = self.governor.taken()
        rows = () if track is None else torch.tensor(track)
        return dict(zip(watched, rows, strict=True)), raw


def test_what_is_said_is_of_the_raw_distribution() -> None:
    engine = Engine()
    engine.arrive("a")
    engine.known["other"] = [0] * PROMPT

    said, raw = engine.step({"other": 2, "a": 5})

    assert said.keys() == {"a"}
    logs = raw[1].double().log_softmax(0)
    found = said["a"].double()
    assert found[T_LOGPROB] == pytest.approx(logs[5].item(), abs=1e-5)
    assert found[T_ENTROPY] == pytest.approx(-(logs.exp() * logs).sum().item(), abs=1e-5)
    assert found[T_TOP] == pytest.approx(logs.max().exp().item(), abs=1e-5)
    assert engine.governor.taken() == ({}, None)


LEFT = slice(SIZE // 2, None)
"""The tokens that are not masked."""


@pytest.mark.parametrize("governing", [None, Governing(budget=50)])
def test_who_asks_is_told_what_the_token_was_drawn_from(governing: Governing | None) -> None:
    """Nobody else is, and all is of the right row."""
    engine = Engine()
    engine.arrive("mate", governing)
    engine.arrive("greedy", governing, monitored=False, asks=["processed"], greedy=True)
    engine.arrive("sure", governing, asks=["confidence"])
    engine.arrive("drawn", governing, asks=["processed", "confidence"])
    engine.known["other"] = [0] * PROMPT

    token = 11
    said, raw = engine.step({"other": 7, "mate": 7, "drawn": token, "greedy": 7, "sure": 7})

    logs = (raw[2].double() * 7)[LEFT].log_softmax(0)
    processed = said["drawn"][[T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB]].tolist()
    assert processed[0] == pytest.approx(-(logs.exp() * logs).sum().item(), abs=1e-5)
    assert processed[1] == pytest.approx(logs[token - SIZE // 2].item(), abs=1e-4)
    for name, row in (("drawn", 2), ("sure", 4)):
        mean = raw[row].double().log_softmax(0).mean().item()
        assert said[name][T_CONFIDENCE] == pytest.approx(mean, abs=1e-5)
        assert said[name][T_TOP] == pytest.approx(raw[row].softmax(0).max().item(), abs=1e-5)
    assert said["greedy"][[T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB]].tolist() == [0, 0]
    assert said["greedy"][T_CONFIDENCE].isnan()
    assert said["sure"][[T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB]].isnan().all()
    assert said["mate"][[T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB, T_CONFIDENCE]].isnan().all()


def test_the_processed_distribution_alone_costs_no_other_pass() -> None:
    engine = Engine()
    engine.arrive("a", monitored=False, asks=["processed"])
    for _ in range(2):
        said, _ = engine.step({"a": 8})
        assert said["a"][[T_ENTROPY, T_LOGPROB, T_TOP]].isnan().all()
        assert said["a"][[T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB]].isfinite().all()
        assert said["a"][T_FORCED] == 0


def test_greedy_requests_need_no_processed_logits() -> None:
    engine = Engine()
    engine.arrive("a", monitored=False, asks=["processed"], greedy=True)
    engine.step({"a": 8})
    batch = Batch(
        ["a"],
        torch.tensor([0, 1], dtype=torch.int32),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int32),
        tokens=1,
    )
    engine.governor.begin(batch)
    assert not engine.governor.processing
    engine.governor.finish("a")
    del engine.known["a"]
    engine.arrive("a", monitored=False, asks=["processed"])  # another one of that name
    engine.governor.begin(batch)
    assert engine.governor.processing
    engine.governor.rest()
    assert not engine.governor.processing


def test_a_forced_token_has_no_processed_probability() -> None:
    engine = Engine()
    engine.arrive("a", Governing(budget=1), monitored=False, asks=["processed"])
    engine.step({"a": 8 + 3})
    said, _ = engine.step({"a": 7})
    assert said["a"][T_FORCED] == 1
    assert said["a"][T_PROCESSED_LOGPROB].isnan()
    assert said["a"][T_PROCESSED_ENTROPY].isfinite()


def budget(engine: Engine, name: str, drawn: Sequence[int]) -> list[int]:
    """Tokens of the response to drawn ones."""
    for token in drawn:
        engine.step({name: token})
    return engine.known[name][PROMPT:]


def test_a_budget_outlives_a_preemption() -> None:
    engine, alone = Engine(), Engine()
    for one in (engine, alone):
        one.arrive("a", Governing(budget=5), monitored=False)
    budget(engine, "a", [1, 2, 3])
    engine.governor.preempt("a")
    # Its place is taken by others meanwhile, until it is free again.
    for name in "bcde":
        engine.arrive(name, Governing(budget=1), monitored=False)
        budget(engine, name, [1, 1, 1])
        engine.governor.finish(name)
    engine.arrive("a", Governing(budget=5), monitored=False)

    # Its tokens are read anew, in two parts; what is drawn after the first is no token.
    engine.step({"a": 7}, read=2)
    found = budget(engine, "a", [4, 5, 6, 6])

    assert found == budget(alone, "a", [1, 2, 3, 4, 5, 6, 6]) == [1, 2, 3, 4, 5, END, 6]


def dropped(engine: Engine, name: str, governing: Governing, tokens: int) -> None:
    """The engine preempts a request and drops the last tokens that it drew in the meantime."""
    engine.governor.preempt(name)
    del engine.known[name][len(engine.known[name]) - tokens :]
    engine.arrive(name, governing, monitored=False)


LOOP = [1, 2] * 20


@pytest.mark.parametrize(
    ("governing", "drawn", "cut"),
    [
        (Governing(budget=3), [1, 2, 3, 4, 5], 4),  # the marker itself
        (Governing(budget=3), [1, 2, 3, 4, 5], 2),
        (Governing(budget=2, grace=3), [1, 2, NEWLINE, 4, 5], 3),
        (Governing(budget=9, minimum=2, nudge=(5,)), [1, END, 3, END, 4], 2),
        (Governing(on_loop=True), [*LOOP, 1, 2, 1, 2], 35),
        (Governing(budget=9, min_answer=2), [1, 2, END, 3, STOP, 4], 4),
        (Governing(budget=9, min_answer=2), [1, 2, END, 3, STOP, 4], 3),
        (Governing(min_answer=50), [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5], 9),  # the length
        (Governing(budget=9), [1, CALL, 3, 4, 5], 2),
    ],
)
def test_a_dropped_token_is_drawn_anew(governing: Governing, drawn: list[int], cut: int) -> None:
    """A request goes on from the tokens it has, also where the engine forgot the last of them."""
    alone, engine = Engine(), Engine()
    for one in (alone, engine):
        one.arrive("a", governing, monitored=False)
    wanted = budget(alone, "a", drawn)
    budget(engine, "a", drawn[:cut])
    dropped(engine, "a", governing, tokens=1)

    assert budget(engine, "a", drawn[cut - 1 :]) == wanted


def test_certainty_and_entropies_outlive_a_dropped_token() -> None:
    engine = Engine()
    governing = Governing(window=2, entropy_below=99.0)
    engine.arrive("a", governing)
    budget(engine, "a", [1, 2, NEWLINE, 4])
    assert engine.known["a"][-1] == END
    engine.governor.preempt("a")
    del engine.known["a"][-1]
    engine.arrive("a", governing)
    said, _ = engine.step({"a": 5})
    assert engine.known["a"][-1] == END
    assert said["a"][T_CLOSED_BY] == REASONS.index("entropy")


def test_a_fork_begins_after_the_tokens_it_is_given() -> None:
    """Its budget, its minimum and its length are those of the whole response."""
    alone, engine = Engine(), Engine()
    governing = Governing(budget=4, min_answer=3)
    alone.arrive("a", governing, monitored=False)
    wanted = budget(alone, "a", [1, 2, 3, 4, 5, STOP, 6])
    engine.known["f"] = [0] * PROMPT + [1, 2]
    engine.arrive("f", governing, monitored=False, begun=True)
    assert budget(engine, "f", [3, 4, 5, STOP, 6]) == wanted

    late = unplanned(governing=governing, origin=PROMPT, begun=30, longest=100)
    assert late.wire("f", SamplingParams(max_tokens=10))["governing"]["end"] == PROMPT + 40


def test_a_requests_own_stop_ends_no_thought() -> None:
    engine = Engine()
    engine.known["a"] = [0] * PROMPT
    carrier = unplanned(
        governing=Governing(), origin=PROMPT, opened=True, stops=[STOP], longest=100
    )
    wire = carrier.wire("a", SamplingParams(stop_token_ids=[3]))
    engine.governor.arrive(Arrival("a", wire, engine.known["a"], 0))
    assert budget(engine, "a", [1, 3, 4]) == [1, END, 4]
    odd = SamplingParams(stop_token_ids=[SIZE, 10**9, -1, 3])
    assert replace(carrier, vocabulary=SIZE).wire("b", odd)["governing"]["stops"] == (3, STOP)
    ignoring = carrier.wire("b", SamplingParams(ignore_eos=True))
    assert ignoring["governing"]["stops"] == ()


def test_a_request_that_is_aborted_while_preempted_leaves_nothing() -> None:
    engine = Engine(capacity=1)
    engine.arrive("a", Governing(budget=1))
    engine.step({"a": 1})
    engine.governor.preempt("a")
    engine.governor.finish("a")
    engine.known["a"] = [0] * PROMPT
    engine.arrive("a", Governing(budget=1))
    assert "a" in engine.governor

    said, _ = engine.step({"a": 2})
    assert said["a"][T_FORCED] == 0
    said, _ = engine.step({"a": 2})
    assert (said["a"][T_FORCED], said["a"][T_CLOSED_BY]) == (1, 2)


@pytest.mark.parametrize("when", ["staged", "running", "preempted", "back"])
def test_an_answer_settles_a_request_wherever_it_is(when: str) -> None:
    engine = Engine()
    engine.arrive("a", Governing(probing=Probing(1, 1, 1)))
    if when != "staged":
        budget(engine, "a", [1, 2])
    if when in ("preempted", "back"):
        engine.governor.preempt("a")
    if when == "back":
        engine.arrive("a", Governing())
    engine.governor.settle("a")
    engine.governor.settle("gone")
    if when == "preempted":
        engine.arrive("b", Governing())  # in its place
        engine.arrive("a", Governing())

    said = [engine.step({"a": token})[0]["a"] for token in (3, NEWLINE, 4, 4)]

    assert [one[T_FORCED] for one in said] == [0, 0, 1, 0]
    assert REASONS[int(said[-1][T_CLOSED_BY])] == "certainty"


def test_no_answer_ends_before_it_begins() -> None:
    engine = Engine()
    engine.arrive("a", Governing(budget=0, min_answer=2))
    engine.step({"a": 1})
    engine.known["a"] = [*engine.known["a"]]
    for allowed in (False, False, True):
        names = ["a"]
        last = len(engine.known["a"])
        batch = Batch(
            names,
            torch.tensor([0, 1], dtype=torch.int32),
            torch.tensor([last - 1]),
            torch.zeros(1, dtype=torch.int32),
            tokens=1,
        )
        engine.governor.begin(batch)
        logits = torch.zeros(1, SIZE)
        engine.governor.observe(logits, keep=True)
        engine.governor.forbid(logits)
        assert bool(logits[0, STOP].isfinite()) == allowed
        engine.governor.govern(torch.tensor([3]))
        engine.governor.taken()
        engine.known["a"].append(3)


def test_only_requests_under_a_law_are_moved() -> None:
    engine = Engine()
    engine.arrive("a", Governing(law=LAW))
    engine.arrive("b", Governing(budget=9))
    assert engine.governor.moving is None
    batch = Batch(
        ["b", "a"],
        torch.tensor([0, 2, 4], dtype=torch.int32),
        torch.tensor([0, 1, 0, 1]),
        torch.zeros(4, dtype=torch.int32),
        tokens=4,
    )
    engine.governor.begin(batch)
    assert engine.governor.moving is not None
    coef = torch.zeros(6)
    engine.governor.coefficients(coef, batch)
    assert coef.tolist() == [1, 1, 0.5, 0.5, 1, 1]
    engine.governor.rest()
    assert engine.governor.moving is None
