"""The reports' way beside the scheduler."""

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs

from steersman.engine.compat import core
from steersman.frontend.reports import Reports

LEFT = {"do_remote_prefill": True, "remote_block_ids": [[1, 2]]}
REPORT = (b"\x90", b"", b"\x90", b"")


@pytest.mark.parametrize("own", [None, LEFT])
def test_a_connectors_own_parameters_come_through(
    own: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = EngineCoreOutput(request_id="r", new_token_ids=[7], kv_transfer_params=own)
    step = {0: EngineCoreOutputs(outputs=[output])}
    monkeypatch.setattr(Scheduler, "update_from_output", lambda *_: step)
    core._pass_reports_on()
    update: Any = Scheduler.update_from_output

    said = update(None, None, SimpleNamespace(**{core.REPORT: REPORT}))[0].outputs

    assert said[0].kv_transfer_params == {**(own or {}), "steersman": REPORT}
    seen: list[Any] = []
    processor = SimpleNamespace(process_outputs=seen.extend)
    Reports().listen(SimpleNamespace(output_processor=processor))
    processor.process_outputs(said)
    assert [one.kv_transfer_params for one in seen] == [own]
    assert own in (None, {"do_remote_prefill": True, "remote_block_ids": [[1, 2]]})
