"""vLLM's asynchronous scheduler and our governor together, one step ahead of the tokens.

Asynchronous scheduling is off on CPUs, so the model runner is played here: the scheduler, the calls
that our hooks make of its steps, and the governor are the real ones. The streams and events of a
GPU are not in it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from steersman.engine.batch import Arrival, Batch
from steersman.engine.compat import steps
from steersman.engine.governor import Governor
from steersman.frontend.unplanned import unplanned
from steersman.thinking.governing import Governing
from steersman.wire import KEY
from steersman_kernels.vocabulary import Vocabulary

REASONER = Path(__file__).parents[3] / "server/steersman/models/reasoner"
SIZE, END, STOP, PROMPT = 16, 9, 10, 5


@pytest.fixture(scope="module")
def config() -> Any:
    """A configuration of the built-in reasoner's engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        args = EngineArgs(
            model=str(REASONER), dtype="float32", max_model_len=256, block_size=32, seed=0
        )
        args.enforce_eager, args.enable_chunked_prefill = True, False
        config = args.create_engine_config()
    config.cache_config.num_gpu_blocks = 64
    return config


@dataclass
class Runner:
    """A model runner of which only the bookkeeping is played: its model draws by position.

    Attributes:
        second: Whether it forgets preempted requests, as vLLM's second runner does.
        tokens: All tokens of each request, those in flight included.
        reads: How many of these have been read.

    """

    second: bool
    governor: Governor
    tokens: dict[str, list[int]] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def run(self, scheduled: Any) -> ModelRunnerOutput:
        """A step: its tokens, which the scheduler gets later."""
        steps.update(_Arrivals(self), scheduled, self._resumed)
        for new in scheduled.scheduled_new_reqs:
            self.tokens[new.req_id] = [*(new.prefill_token_ids or new.prompt_token_ids)]
            self.params[new.req_id] = new.sampling_params
            self.reads[new.req_id] = new.num_computed_tokens
        cached = scheduled.scheduled_cached_reqs
        for id_, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            if id_ in cached.resumed_req_ids:
                self.tokens[id_] = [*cached.all_token_ids[id_]]
            self.reads[id_] = computed
        ids = list(scheduled.num_scheduled_tokens)
        ends = [self.reads[id_] + scheduled.num_scheduled_tokens[id_] for id_ in ids]
        positions = [torch.arange(self.reads[i], end) for i, end in zip(ids, ends, strict=True)]
        start = torch.tensor([0, *map(len, positions)]).cumsum(0).int()
        whole = torch.cat(positions)
        batch = Batch(ids, start, whole, torch.zeros(len(whole), dtype=torch.int32), len(whole))
        self.governor.begin(batch)
        self.governor.observe(torch.zeros(len(ids), SIZE), keep=False)
        drawn = torch.tensor([draw(end) for end in ends])
        self.governor.govern(drawn)
        self.governor.taken()
        sampled: list[list[int]] = []
        for id_, end, token in zip(ids, ends, drawn.tolist(), strict=True):
            whole_prompt = end == len(self.tokens[id_])
            sampled.append([token] if whole_prompt else [])
            self.tokens[id_] += sampled[-1]
            self.reads[id_] = end
        return ModelRunnerOutput(ids, {id_: i for i, id_ in enumerate(ids)}, sampled)

    def _resumed(self, request_id: str) -> tuple[Any, list[int]]:
        assert not self.second
        return self.params[request_id], self.tokens[request_id]


@dataclass
class _Arrivals:
    """The governor as steps drive it, its requests without steering."""

    runner: Runner

    def arrive(self, arrival: Arrival) -> None:
        self.runner.governor.arrive(arrival)

    def preempt(self, request_id: str) -> None:
        self.runner.governor.preempt(request_id)

    def finish(self, request_id: str) -> None:
        self.runner.governor.finish(request_id)

    def begin(self, batch: Batch) -> None: ...

    def rest(self) -> None: ...

    def counted(self) -> None: ...


def draw(position: int) -> int:
    """The token that the model draws there, whenever it is asked."""
    return 1 + position % 7


def responses(config: Any, *, second: bool, reset_after: int | None) -> list[list[int]]:
    """Responses to two requests, one of them governed; the cache is reset after some steps."""
    governor = Governor(4, torch.device("cpu"), torch.float32)
    governor.arm(Vocabulary.of([8], [END], [], [END], bytes(SIZE)))
    spec = FullAttentionSpec(block_size=32, num_kv_heads=2, head_size=32, dtype=torch.float32)
    cache = KVCacheConfig(
        num_blocks=64, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )
    scheduler = AsyncScheduler(config, cache, StructuredOutputManager(config), block_size=32)
    scheduler.use_v2_model_runner = second
    runner = Runner(second, governor)
    carrier = unplanned(
        governing=Governing(budget=4, min_answer=3),
        origin=PROMPT,
        opened=True,
        stops=[STOP],
        longest=256,
    )
    requests = []
    for name, governed in (("governed", True), ("other", False)):
        params = SamplingParams(max_tokens=12, temperature=0)
        if governed:
            params.extra_args = {KEY: carrier.wire(name, params)}
        requests.append(Request(name, [3] * PROMPT, params, None))
        scheduler.add_request(requests[-1])
    in_flight: list[tuple[Any, ModelRunnerOutput]] = []
    for step in range(60):
        scheduled = scheduler.schedule()
        if scheduled.total_num_scheduled_tokens:
            in_flight.append((scheduled, runner.run(scheduled)))
        if step == reset_after:
            assert in_flight
            scheduler.reset_prefix_cache(reset_running_requests=True)
        # The scheduler is a step ahead of the tokens.
        if len(in_flight) > 1 or not scheduled.total_num_scheduled_tokens:
            if not in_flight:
                break
            scheduler.update_from_output(*in_flight.pop(0))
    return [[*request.output_token_ids] for request in requests]


@pytest.mark.parametrize("second", [False, True], ids=["V1", "V2"])
def test_a_reset_of_the_cache_loses_no_limit(config: Any, second: bool) -> None:
    wanted = responses(config, second=second, reset_after=None)
    assert [len(tokens) for tokens in wanted] == [12, 12]
    assert wanted[0][4] == END
    assert END not in wanted[1]
    for reset_after in range(1, 12):
        assert responses(config, second=second, reset_after=reset_after) == wanted
