"""`python -m tests.fuzz fuzz|replay`: start a server, ask it, say what was found."""

import argparse
import secrets
import sys
from pathlib import Path

import anyio

from steersman.local import LocalServer
from tests.fuzz.ask import ask
from tests.fuzz.drive import Options, Run
from tests.fuzz.findings import read
from tests.fuzz.judge import Judge
from tests.fuzz.known import KnownAnswers
from tests.fuzz.summary import summary
from tests.fuzz.surface import Surface
from tests.fuzz.target import ARGUMENTS, Target

DIRECTORY = Path("build/fuzz")


def main() -> int:
    """The exit code: 1 if a rule was broken."""
    arguments = _arguments()
    log = DIRECTORY / "server.log"
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    # vLLM keeps compiled grammars up to a limit (512 MiB) that hides what else grows.
    environment = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_XGRAMMAR_CACHE_MB": "16"}
    with LocalServer.steersman((*ARGUMENTS, *arguments.server), log, environment) as server:
        target = Target(server, restarts=arguments.restarts)
        if arguments.command == "replay":
            return anyio.run(_replay, target, arguments.file)
        options = Options(
            seed=arguments.seed,
            requests=arguments.requests,
            seconds=arguments.seconds,
            hang_up=arguments.hang_up,
            largest=arguments.largest,
        )
        print(f"seed {options.seed}", flush=True)
        run = Run(target, options, lambda line: print(line, flush=True))
        try:
            anyio.run(run.run)
        finally:
            print(summary(run, target, DIRECTORY), flush=True)
    return 1 if run.findings.violations else 0


async def _replay(target: Target, file: Path) -> int:
    with target.client() as http:
        surface = Surface.of(http)
    broken = 0
    async with target.async_client() as http:
        judge = Judge(surface, http)
        known = await KnownAnswers.record(http, surface.model)
        for case in read(file):
            answer = await ask(http, case)
            verdict = await judge.judged(case, answer, compare=True)
            dead = await target.dies(1.0 if answer.broken or answer.status >= 500 else 0)
            found = [*verdict.violations, *([] if dead else await known.changed(http))]
            broken += len(found) + dead
            print(case.curl(target.server.url)[:1500], answer.status, sep="\n")
            for line in ["the server is dead"] * dead + [f"{v.rule}: {v.detail}" for v in found]:
                print("    " + line)
            if dead:
                break
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fuzz = commands.add_parser("fuzz")
    fuzz.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    fuzz.add_argument("--requests", type=int, default=20_000)
    fuzz.add_argument("--seconds", type=float, default=3600.0)
    fuzz.add_argument("--hang-up", action="store_true", help="have most clients hang up")
    fuzz.add_argument("--largest", type=float, default=float("inf"))
    commands.add_parser("replay").add_argument("file", type=Path)
    for command in commands.choices.values():
        command.add_argument("--restarts", type=int, default=20, help="of the server, at most")
        command.add_argument("--server", nargs="*", default=(), help="further server arguments")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
