"""One server for all HTTP tests; a test that kills it gets another one started after it."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from steersman_client import Steersman
from tests.http.server import API_KEY, Server

ARGUMENTS = (
    "smollm2",
    f"--api-key={API_KEY}",
    "--enforce-eager",
    "--max-num-seqs=32",
    "--profiles",
    str(Path(__file__).parent / "profiles.yaml"),
    "--max-body-bytes=20000000",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    # SmolLM2 does not think: the text up to its first full stop stands for a thinking phase.
    '--reasoning-config={"reasoning_start_str": "<think>", "reasoning_end_str": "."}',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.http)


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    server = Server.steersman(ARGUMENTS, log, {"VLLM_LOGGING_LEVEL": "WARNING"})
    yield server
    server.stop()


@pytest.fixture
def server(_shared: Server) -> Server:
    if not _shared.running:
        _shared.start()
    return _shared


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """The official SDK, as users have it."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def client(server: Server) -> Iterator[Steersman]:
    with Steersman(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client
