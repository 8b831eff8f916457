"""Two servers for all HTTP tests, one at a time: each is started when a test first asks for it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from steersman_client import ControlSpec, FirstFinish, Steersman
from tests.http.image import Image
from tests.http.replicas import Replicas
from tests.http.server import ADMIN_KEY, API_KEY, ForkedServer, Server

PROFILES = str(Path(__file__).parent / "profiles.yaml")
REWARDS = str(Path(__file__).parent / "rewards.yaml")
KEYS = str(Path(__file__).parent / "keys.yaml")
SMOLLM2 = (
    "smollm2",
    f"--profiles={PROFILES}",
    "--max-num-seqs=32",
    "--max-body-bytes=20000000",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
)
STEERING_ROWS = 3
EDIT_ROWS = 2
MAX_QUEUED = 1000
"""Requests that may be in the engine or wait for it, each with all its branches."""
SHARED = "{shared}"
"""In arguments of a server: a directory that tests write to, which it follows."""
FOLLOW_SECONDS = 0.5
REASONER = (
    "reasoner",
    "--max-num-seqs=64",
    f"--admin-api-key={ADMIN_KEY}",
    f"--steering-rows={STEERING_ROWS}",
    "--steering-wait=0.2",
    f"--edit-rows={EDIT_ROWS}",
    f"--rewards={REWARDS}",
    f"--keys={KEYS}",
    f"--max-num-queued-reqs={MAX_QUEUED}",
    "--shutdown-timeout=600",  # however slow the machine is, a test ends it first
    "--max-steering-norm=1e300",  # for what goes wrong where nothing is bounded but by the dtype
    f"--vectors={SHARED}/vectors",
    f"--edits={SHARED}/edits",
    f"--live-edits={SHARED}/live",
    f"--profiles={SHARED}/profiles.yaml",
    f"--follow={FOLLOW_SECONDS}",
)
TWO_ENGINES = (*REASONER, "--data-parallel-size=2")
_SCALED = {
    "tensor": (*REASONER, "--tensor-parallel-size=2"),
    "pipeline": (*REASONER, "--pipeline-parallel-size=2"),
    "data": TWO_ENGINES,
}
"""Arguments of the model that thinks, by `--on`; the same in every other case."""
_SERVERS = ("server", "caller", "two_engines", "reasoner")
"""Fixtures, each with a server of its own; a test that names several gets the first of them."""


def race(n: int, **fields: Any) -> ControlSpec:
    """A control that asks for First Finish Search."""
    return ControlSpec(search=FirstFinish(method="first_finish", n=n, **fields))


class Servers:
    """Keeps one of several servers running.

    Attributes:
        shared: The directory that `SHARED` stands for.

    """

    def __init__(self, directory: Path, shared: Path, *, kind: type[Server] | None = None) -> None:
        self._directory = directory
        self._kind = kind
        self.shared = shared
        for name in ("vectors", "edits", "live"):
            (shared / name).mkdir()
        shutil.copy(PROFILES, shared / "profiles.yaml")
        self._running: dict[tuple[str, ...], Server] = {}

    def get(self, arguments: tuple[str, ...]) -> Server:
        """The server with these arguments, started if need be; any other is stopped."""
        server = self._running.get(arguments)
        if server is None or not server.running:
            self.stop()
            number = sum(1 for _ in self._directory.iterdir())
            log = self._directory / f"{number}-{Path(arguments[0]).name}.log"
            given = [one.replace(SHARED, str(self.shared)) for one in arguments]
            # However long a test takes between two requests, their connection is not closed.
            # Other tests need the cores: threads that are bound to some would wait for each other.
            environment = {
                "VLLM_LOGGING_LEVEL": "WARNING",
                "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            }
            # One is started as users do; the others, which test no start, need not import vLLM.
            kind = self._kind or (Server if arguments is SMOLLM2 else ForkedServer)
            server = kind.steersman((*given, f"--api-key={API_KEY}"), log, environment)
            server.start()
            self._running = {arguments: server}
        return server

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()
        self._running = {}


def _chosen(item: pytest.Item, on: str | None) -> bool:
    """True for a test that is run on a server of this kind."""
    if item.get_closest_marker("replicas"):
        return on == "replicas"
    marks = [*item.iter_markers("scale")]
    if on is None or not marks:
        return on is None
    return all(on not in mark.kwargs.get("not_on", ()) for mark in marks)


def _order(item: pytest.Item) -> tuple[int, bool]:
    """Tests of one server stand together, and what ends a server comes last."""
    asked = item.fixturenames if isinstance(item, pytest.Function) else ()
    server = next((i for i, name in enumerate(_SERVERS) if name in asked), 0)
    return server, item.path.stem in ("test_replicas", "test_supervision")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on = config.getoption("--on")
    items[:] = [item for item in items if _chosen(item, on)]
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if here in item.path.parents]
    for place, item in zip(places, sorted((items[i] for i in places), key=_order), strict=True):
        item.add_marker(pytest.mark.http)
        items[place] = item


@pytest.fixture(scope="session")
def _servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    kind = {"replicas": Replicas, "image": Image}.get(request.config.getoption("--on"))
    both = tmp_path_factory.mktemp("http")
    directories = (both / "servers", both / "shared")
    for directory in directories:
        directory.mkdir()
    servers = Servers(*directories, kind=kind)
    yield servers
    servers.stop()


@pytest.fixture
def no_server(_servers: Servers) -> None:
    """None of these servers runs: the test starts one of its own."""
    _servers.stop()


@pytest.fixture
def server(_servers: Servers) -> Server:
    """The default model, with everything that chat clients use switched on."""
    return _servers.get(SMOLLM2)


@pytest.fixture
def reasoner(request: pytest.FixtureRequest, _servers: Servers) -> Server:
    """A model that thinks."""
    return _servers.get(_SCALED.get(request.config.getoption("--on"), REASONER))


@pytest.fixture
def replicas(reasoner: Server) -> Replicas:
    """The same, as two servers behind a router."""
    assert isinstance(reasoner, Replicas)
    return reasoner


@pytest.fixture
def shared(_servers: Servers) -> Path:
    """The directory that the model that thinks has its vectors, edits and profiles in."""
    return _servers.shared


@pytest.fixture
def two_engines(_servers: Servers) -> Server:
    """The same, behind one front end."""
    return _servers.get(TWO_ENGINES)


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """The official SDK, as users have it."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def client(server: Server) -> Iterator[Steersman]:
    with Steersman(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def thinker(reasoner: Server) -> Iterator[Steersman]:
    """A client of the model that thinks."""
    with Steersman(base_url=f"{reasoner.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client
