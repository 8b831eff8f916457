"""Calls on all ranks of two engines, where each step fails in turn."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import DPLBAsyncMPClient

from steersman.edits import file
from steersman.edits.edit import Edit, EditError
from steersman.edits.store import LiveEdits
from steersman.engine.bank import BankError
from steersman.engine.controlled import Controlled
from steersman.engine.plugin import ask
from steersman.engine.ring import Refused, Ring
from steersman.engine.worker import WorkerSteering
from steersman.frontend.ranks import RankError, Ranks, SteeringError
from tests.unit.edits import made_up
from tests.unit.edits.scripted import MODEL
from tests.unit.engine.projections import OutOfMemory, Rank
from tests.unit.vectors.made_up import vector

pytestmark = pytest.mark.anyio

ENGINES, RANKS = 2, 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> list[Edit]:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path_factory.mktemp("made") / "model"))
    return [made_up.edit(checkpoint, seed=seed) for seed in (0, 1)]


class Core:
    """One engine, as its client sees it.

    Attributes:
        paused: Whether it is.
        ranks: The weights of its ranks.
        workers: Its workers.

    """

    def __init__(self, seed: int = 0) -> None:
        self.paused = False
        self.ranks = [Rank(packed=False, seed=seed) for _ in range(RANKS)]
        nothing: Any = SimpleNamespace(edits=None)
        self.workers: list[Any] = [
            SimpleNamespace(
                steersman_ring=Ring(
                    Controlled(nothing, nothing, nothing), "V1", lambda _: None, 1, rank.live
                )
            )
            for rank in self.ranks
        ]

    def pause_scheduler(self, mode: str, clear_cache: bool) -> None:
        assert (mode, clear_cache) == ("keep", True)
        self.paused = True

    def resume_scheduler(self) -> None:
        self.paused = False

    def collective_rpc(
        self, method: str, timeout: None, args: Sequence[Any], options: None
    ) -> list[Any]:
        assert method == "steersman_ask"
        name, *rest = args
        assert self.paused or not name.endswith("_edits")
        return [ask(worker, name, *rest) for worker in self.workers]


@dataclass
class Fault:
    """Something that goes wrong in one of the calls on single engines, which are counted.

    Attributes:
        at: Calls that go well before it.
        late: Whether the engine has done as it was told when its answer is lost.
        cancels: The task that is cancelled instead.
        seen: What the failing call was.

    """

    at: int = -1
    late: bool = False
    cancels: asyncio.Task[Any] | None = None
    seen: list[str] = field(default_factory=list)


class Client(DPLBAsyncMPClient):
    """vLLM's client of several engines, without the sockets."""

    def __init__(self, cores: Sequence[Core]) -> None:
        self.cores = cores
        self.core_engines = [bytes([index]) for index in range(len(cores))]
        self.fault = Fault()

    async def _call_utility_async(self, method: str, *args: Any, engine: bytes) -> Any:
        fault = self.fault
        fault.at -= 1
        fails = fault.at == -1
        if fails:
            fault.seen.append(f"{method} {args[2][0]}" if "rpc" in method else method)
            if fault.cancels is not None:
                fault.cancels.cancel()
            elif not fault.late:
                raise ConnectionError(method)
        await asyncio.sleep(0)
        answer = getattr(self.cores[engine[0]], method)(*args)
        if fails and fault.late and fault.cancels is None:
            raise ConnectionError(method)
        return answer


class Tokens:
    """A vocabulary of two."""

    eos_token_id = 1

    def __len__(self) -> int:
        return 2

    def get_tokenizer(self) -> "Tokens":
        return self

    def get_vocab_size(self) -> int:
        return 2

    def batch_decode(self, ids: Sequence[Any], skip_special_tokens: bool) -> list[str]:
        return ["" for _ in ids]

    def try_get_generation_config(self) -> dict[str, Any]:
        return {}


class Engine:
    """vLLM's engine client, as far as ranks are concerned."""

    pause_generation = AsyncLLM.pause_generation
    resume_generation = AsyncLLM.resume_generation
    collective_rpc = AsyncLLM.collective_rpc
    errored = False
    model_config: Any = None

    def __init__(self, *cores: Core) -> None:
        self.cores: Any = cores
        self.engine_core = Client(cores)
        self.renderer: Any = self

    async def clear_mm_cache_async(self) -> None:
        pass


def opened(*cores: Core) -> tuple[Engine, Ranks, LiveEdits]:
    engine: Any = Engine(*cores)
    ranks = Ranks(engine, retry_seconds=0)
    return engine, ranks, LiveEdits(MODEL, ranks.apply_edits)


def assert_goes_on_with(engine: Engine, *edits: Edit) -> None:
    """The engines run, and every rank's weights are the model's with these edits."""
    wanted = Rank(packed=False)
    wanted.live.prepare(edits)
    wanted.live.commit()
    for core in engine.cores:
        assert not core.paused
        assert all(torch.equal(rank.matrices(), wanted.matrices()) for rank in core.ranks)


@pytest.mark.parametrize("kind", ["fails", "fails late", "is cancelled"])
async def test_wherever_it_fails_the_engines_go_on_and_agree(edits: list[Edit], kind: str) -> None:
    first, second = edits
    calls: list[str] = []
    for at in range(100):
        engine, _, live = opened(Core(), Core())
        await live.put("calm", file.write(first))
        changing = asyncio.create_task(live.put("calm", file.write(second)))
        cancels = changing if kind == "is cancelled" else None
        fault = engine.engine_core.fault = Fault(at, kind == "fails late", cancels)
        (outcome,) = await asyncio.gather(changing, return_exceptions=True)

        (entry,) = live.entries
        assert_goes_on_with(engine, entry.artifact)
        engine.engine_core.fault = Fault()
        await live.delete("calm")
        assert_goes_on_with(engine)
        if not fault.seen:
            assert not isinstance(outcome, BaseException)
            assert entry.artifact == second
            break
        calls += fault.seen
    rpcs = [f"collective_rpc {name}_edits" for name in ("prepare", "commit", "keep")]
    wanted = ["pause_scheduler", *rpcs, "resume_scheduler"]
    assert calls == [call for call in wanted for _ in range(ENGINES)]


async def test_the_refusal_of_any_engine_counts(edits: list[Edit]) -> None:
    engine, _, live = opened(Core(), Core(seed=1))
    with pytest.raises(EditError, match="not those that the edit was made from"):
        await live.put("calm", file.write(edits[0]))
    assert live.entries == ()
    assert not any(core.paused for core in engine.cores)
    for core, seed in zip(engine.cores, (0, 1), strict=True):
        plain = Rank(packed=False, seed=seed).matrices()
        assert all(torch.equal(rank.matrices(), plain) for rank in core.ranks)


async def test_a_rank_without_room_for_the_weights(
    edits: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _, live = opened(Core(), Core())
    await live.put("calm", file.write(edits[0]))

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(engine.cores[1].ranks[1].live, "prepare", full)
        with pytest.raises(RankError, match="rank 3 of 4: no room"):
            await live.put("calm", file.write(edits[1]))
    assert_goes_on_with(engine, edits[0])


async def test_a_rank_that_fails_in_the_middle_of_its_commit(
    edits: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each copy of a tensor in turn; by then other ranks have committed."""
    for at in count():
        engine, _, live = opened(Core(), Core())
        await live.put("calm", file.write(edits[0]))
        rank, memory = engine.cores[1].ranks[0].live, OutOfMemory(at, "copy_")
        commit = rank.commit

        def fails(commit: Any = commit, memory: OutOfMemory = memory) -> None:
            with memory:
                commit()

        with monkeypatch.context() as patch:
            patch.setattr(rank, "commit", fails)
            (outcome,) = await asyncio.gather(
                live.put("calm", file.write(edits[1])), return_exceptions=True
            )
        if not memory.failed:
            break
        assert isinstance(outcome, RankError)
        assert outcome.full
        assert "rank 2 of 4: " in outcome.message
        assert [entry.artifact for entry in live.entries] == edits[:1]
        assert_goes_on_with(engine, edits[0])
    assert at == 3 * len(edits[0].layers)
    assert_goes_on_with(engine, edits[1])


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to"), True),
        (MemoryError(), True),
        (RuntimeError("no such layer"), False),
    ],
)
async def test_no_memory_is_told_from_other_faults(
    monkeypatch: pytest.MonkeyPatch, error: Exception, full: bool
) -> None:
    engine, ranks, _ = opened(Core())

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(engine.cores[0].workers[1].steersman_ring, "load", fails)
    monkeypatch.setattr(engine.cores[0].workers[0].steersman_ring, "load", lambda *_: None)
    monkeypatch.setattr(Ring, "unload", lambda *_: None)
    with pytest.raises(RankError, match=r"^rank 1 of 2: [^\n]+$") as caught:
        await ranks.load(vector(1.0))
    assert caught.value.full == full


def test_so_is_that_of_the_host() -> None:
    ring: Any = SimpleNamespace(take=lambda: torch.empty(2**46))
    answer = ask(SimpleNamespace(steersman_ring=ring), "take")
    assert answer["full"]


async def test_what_one_rank_has_no_room_for_is_on_none() -> None:
    engine, ranks, _ = opened(Core(), Core())
    layers = {0: nn.Identity()}
    sizes = {"rows": 1, "hidden_size": 8, "max_requests": 1, "max_tokens": 1}
    cpu = {"dtype": torch.float32, "device": torch.device("cpu")}
    steerings = [WorkerSteering(layers, **sizes, **cpu) for _ in range(ENGINES * RANKS)]
    workers = [worker for core in engine.cores for worker in core.workers]
    for worker, steering in zip(workers, steerings, strict=True):
        governor: Any = None
        health: Any = None
        controlled = Controlled(steering, governor, health)
        worker.steersman_ring = Ring(controlled, "V1", lambda _: None, 1, "no edits")
    made = vector(1.0)
    last: Any = steerings[-1]
    load, last.load = last.load, None
    with pytest.raises(RankError, match="rank 3 of 4"):
        await ranks.load(made)

    def has(steering: WorkerSteering) -> bool:
        try:
            steering.bank.take("sum", [(made.digest, 1.0, None)])
        except BankError:
            return False
        return True

    assert not any(map(has, steerings))
    last.load = load
    await ranks.load(made)
    assert all(map(has, steerings))


async def test_the_reason_of_any_rank_is_why_a_server_does_not_start() -> None:
    engine, ranks, _ = opened(Core(), Core())
    engine.renderer = engine.model_config = Tokens()
    for worker in (engine.cores[0].workers[0], engine.cores[1].workers[1]):
        worker.steersman_ring = Refused("two lists of layers")
    with pytest.raises(SteeringError, match=r"does not work .*: rank 0 of 4: two lists of layers"):
        await ranks.arm(None)


async def test_a_dead_engine_is_not_asked_to_go_on_for_ever(edits: list[Edit]) -> None:
    engine, _, live = opened(Core(), Core())
    engine.errored = True
    for core in engine.cores:
        core.workers = core.resume_scheduler = core.pause_scheduler = None
    with pytest.raises(TypeError):
        await live.put("calm", file.write(edits[0]))
