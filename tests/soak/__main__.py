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
from benchmarks import report as benchmark

from steersman.local import LocalServer
from tests.fuzz.invariants import Violation
from tests.fuzz.known import KnownAnswers
from tests.fuzz.surface import Surface
from tests.fuzz.target import Target
from tests.prometheus import PROGRAM, Prometheus
from tests.soak import board, picture, verdict
from tests.soak.mix import CONTROLS, MODEL
from tests.soak.report import result
from tests.soak.run import Options, watch

ROOT = Path(__file__).parents[2]
ARGUMENTS = (MODEL, "--max-num-seqs=64", "--num-gpu-blocks-override=1024")
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # vLLM keeps compiled grammars up to a limit (512 MiB) that hides what else grows.
    "VLLM_XGRAMMAR_CACHE_MB": "16",
}


def main() -> int:
    """The exit code: 1 unless every criterion holds."""
    arguments = _arguments()
    options = Options(arguments.seconds, arguments.seed, tuple(arguments.kinds))
    log = ROOT / "build/soak/server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    _say(f"seed {options.seed}, {options.seconds:g} s")
    with (
        LocalServer.steersman((*ARGUMENTS, *arguments.server), log, _ENVIRONMENT) as server,
        _scraped(server) as prometheus,
    ):
        target = Target(server)
        with target.client() as http:
            surface = Surface.of(http)
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
    parser.add_argument("--result", type=Path, default=benchmark.RESULTS / "soak.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/pictures/soak.png")
    parser.add_argument("--board", type=Path, default=ROOT / "docs/pictures/dashboard.png")
    parser.add_argument("--kinds", nargs="+", choices=CONTROLS, default=tuple(CONTROLS))
    parser.add_argument("--server", nargs="*", default=(), help="further server arguments")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
