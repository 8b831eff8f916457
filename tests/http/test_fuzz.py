"""A short run of the fuzzer; `make fuzz` is the long one."""

from pathlib import Path

import anyio
import pytest

from tests.fuzz.drive import Options, Run
from tests.fuzz.summary import summary
from tests.fuzz.target import Target
from tests.http.server import API_KEY, Server

REQUESTS = 120


@pytest.mark.parametrize("hang_up", [False, True], ids=["to the end", "hanging up"])
def test_no_request_hurts_another(reasoner: Server, tmp_path: Path, hang_up: bool) -> None:
    target = Target(reasoner, API_KEY)
    run = Run(target, Options(seed=1, requests=REQUESTS, hang_up=hang_up))
    anyio.run(run.run)
    assert not run.findings.violations, summary(run, target, tmp_path)
    assert run.tally.requests >= REQUESTS
    # At least those that hang up while they send: the others may be answered first.
    outcome, fewest = ("hung up", 5) if hang_up else ("answered with a control", 20)
    assert run.tally.by_outcome[outcome] > fewest
