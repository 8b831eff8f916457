"""The installed vLLM has all that Steersman relies on, and all of that is in the table."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.parallel_sampling import ParentRequest

from steersman.engine import plugin
from steersman.engine.compat import __main__ as command
from steersman.engine.compat import names, version
from steersman.engine.compat.contract import Name, Use, complaints
from steersman.engine.compat.names import NAMES
from steersman.engine.compat.requests import choice_of
from tests.unit.engine.compat import syntax

INSTALLED = version.numbers(version.installed() or "")
KNOWN = {name.last for name in NAMES}


def test_the_installed_vllm_keeps_the_contract() -> None:
    assert list(complaints(NAMES, INSTALLED)) == []


def test_no_name_is_listed_twice() -> None:
    listed = [(name.path, name.use) for name in NAMES]
    # The engine's part of these is what a worker writes, the server's what the front end reads.
    twice = {path for path, _ in listed if listed.count((path, Use.READ)) > 1}
    assert twice == {"vllm.v1.engine:EngineCoreOutput.kv_transfer_params"}


_SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler."


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (Name(_SCHEDULER + "gone"), "is not there"),
        (Name("vllm.v1.core.sched.scheduler:Gone.update"), "is not there"),
        (Name("vllm.compilation.decorators:*.gone"), "is not there"),
        (Name("vllm.gone:thing"), "vllm.gone cannot be imported"),
        (Name("vllm.gone:*.thing"), "there is no module vllm.gone"),
        (Name(_SCHEDULER + "requests", Use.CALLED), "is no function"),
        (Name(_SCHEDULER + "schedule", Use.ADDED), "vLLM has one of its own"),
        (Name(_SCHEDULER + "schedule", Use.INHERITED), "has one of its own"),
        (
            Name(_SCHEDULER + "update_from_output", Use.WRAPPED, ("outputs",)),
            "should begin with (outputs)",
        ),
        (
            Name(_SCHEDULER + "update_from_output", Use.WRAPPED, ("scheduler_output",), exact=True),
            "has model_runner_output too",
        ),
        (
            Name(_SCHEDULER + "update_from_output", Use.CALLED, ("scheduler_output",)),
            "needs model_runner_output too",
        ),
        (Name("vllm:LLM.sleep", Use.CALLED, keywords=("depth",)), "has no depth"),
        (Name("VLLM_GONE", Use.VARIABLE), "vLLM does not read it"),
        (Name("gone", Use.ARGUMENT), "vLLM has no such argument"),
    ],
    ids=str,
)
def test_a_name_that_is_not_as_listed(name: Name, complaint: str) -> None:
    [line] = complaints([name], INSTALLED)
    assert complaint in line
    assert name.path in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "path",
    [
        _SCHEDULER + "update_from_output",  # a method
        _SCHEDULER + "kv_cache_manager",  # assigned to self
        "vllm.config:VllmConfig.use_v2_model_runner",  # a property
        "vllm.v1.core.sched.output:NewRequestData.req_id",  # a field without a default
        "vllm.v1.engine:EngineCoreOutput.request_id",  # of msgspec
        "vllm.entrypoints.openai.chat_completion.protocol:ChatCompletionRequest.max_tokens",
        "vllm.v1.worker.gpu_worker:Worker.model_runner",  # assigned in a base class
        "vllm.v1.request:RequestStatus.FINISHED_ERROR",
        "vllm.model_executor.layers.utils:*.cpu_linear",
    ],
)
def test_a_name_is_found_wherever_it_is_defined(path: str) -> None:
    assert list(complaints([Name(path)], INSTALLED)) == []
    assert list(complaints([Name(f"{path}_gone")], INSTALLED)) != []


def test_names_of_one_lost_module_are_one_line() -> None:
    [line] = complaints([Name("vllm.gone:a"), Name("vllm.gone:b"), Name("vllm.gone:c")], INSTALLED)
    assert line.endswith("without vllm.gone:a (read) and 2 more")


def test_a_name_counts_from_its_first_version_to_its_last() -> None:
    name = Name("a:b", since=(0, 28), until=(0, 30))
    assert [name.of((0, minor)) for minor in (27, 28, 30, 31)] == [False, True, True, False]
    assert not name.of(None)
    assert Name("a:b").of(None)
    assert Name("a:b").of((0, 40))


@pytest.mark.parametrize(
    ("listed", "code", "said"),
    [
        ((Name("vllm.config:VllmConfig"),), 0, "1 names looked for, complaints: 0"),
        ((Name("vllm.config:Gone"),), 1, "vllm.config:Gone (read): is not there"),
    ],
)
def test_the_command_says_what_is_missing(
    listed: tuple[Name, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "NAMES", listed)
    assert command.main() == code
    assert said in capsys.readouterr().out


def test_the_choice_is_in_the_name_of_an_engine_request() -> None:
    """With the ids that vLLM itself makes, of a request whose own id looks like one of them."""
    request = EngineCoreRequest(
        request_id="7_chat_1",
        prompt_token_ids=[1],
        mm_features=None,
        sampling_params=SamplingParams(n=12),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id="7_chat_1",
    )
    parent = ParentRequest(request)
    ids = [parent.get_child_info(index)[0] for index in range(12)]
    assert [choice_of(id_) for id_ in ids] == list(range(12))


# The other way round: whatever the source hooks, it hooks by the table.


@pytest.mark.parametrize("path", syntax.hooking(), ids=lambda path: path.name)
@pytest.mark.parametrize(
    "found", [syntax.replaced, syntax.private, syntax.asked, syntax.read], ids=lambda f: f.__name__
)
def test_every_hook_is_in_the_table(found: Callable[[Path], Iterator[str]], path: Path) -> None:
    known = KNOWN | {
        "_C",  # torch's place of compiled operators
        "get",  # a dict's
        "getsockopt",  # ZeroMQ's
        "__class__",
    }
    if path.name == "worker.py":
        known |= {"name"}  # the plugin's calls: see the next test
    assert set(found(path)) <= known


def test_the_plugins_own_names_are_in_the_table() -> None:
    added = {name.last for name in NAMES if name.use is Use.ADDED}
    assert {plugin.RPC, plugin.ASK, *syntax.replaced(Path(plugin.__file__))} <= added


def test_every_import_of_vllm_is_in_the_table() -> None:
    parts = {part for name in NAMES for part in name.path.replace(":", ".").split(".")}
    imported = {
        one for path in (*syntax.elsewhere(), *syntax.hooking()) for one in syntax.imports(path)
    }
    assert len(imported) > 40
    assert {(module, name) for module, name in imported if name not in parts} == set()


def test_nothing_is_hooked_outside_compat() -> None:
    """Neither is a function put into an object of others, nor anything private read."""
    found = {
        (str(path.relative_to(syntax.SERVER)), name)
        for path in syntax.elsewhere()
        for name in (*syntax.replaced_by_functions(path), *syntax.private(path))
        if name not in ("_fields", "_replace")  # of named tuples
    }
    assert found == {("api/openapi.py", "openapi")}  # FastAPI's


def test_hooks_are_seen_in_the_source() -> None:
    """The search would see them: it finds those that are known to be there."""
    found = {path.name: path for path in syntax.hooking()}
    assert {"update_from_output", "steersman_clear", "pop_blocks_for_free"} <= set(
        syntax.replaced(found["faults.py"])
    )
    assert "generate_block_hash_extra_keys" in set(syntax.replaced(found["core.py"]))
    assert "_call_utility_async" in set(syntax.private(found["client.py"]))
    assert "_turn_boundary_token_ids" in set(syntax.asked(found["reasoning.py"]))
    assert "process_outputs" in set(syntax.replaced_by_functions(found["requests.py"]))
    assert {"scheduled_new_reqs", "resumed_req_ids"} & set(syntax.read(found["steps.py"]))


def test_the_table_has_both_parts() -> None:
    assert {name.since for name in names.ENGINE} == {(0, 26), (0, 32)}
    assert {name.since for name in names.SERVER} == {(0, 32)}
    assert {name.runner for name in names.ENGINE} == {None, "V1", "V2"}
