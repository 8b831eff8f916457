"""Seconds from a bare clone with empty caches to the first answer of `make serve`, by part.

The clone, the home and with it all caches are new in each round; packages come from wherever pip is
configured to look. `packages` is what uv needs to download and unpack, and so is mostly the
registry's speed. `imports` ends with vLLM's first line: beside them the model is fetched and made
ready, and the loops are compiled. `processor` has the processors' seconds, which other work on the
machine lengthens less than the others.

    python benchmarks/first_answer.py [--rounds 3]
"""

import argparse
import os
import queue
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import report

from steersman.local import free_port

ROOT = Path(__file__).resolve().parents[1]
KEPT = re.compile(r"PATH|LANG|.*(_PROXY|_proxy)|PIP_.*|SSL_.*|.*_CA_BUNDLE")
"""Variables that say where programs and packages are; no other is handed on."""
PREPARED = re.compile(r"Prepared \d+ packages? in (?:([\d.]+)m )?([\d.]+)(m?s)")
STEPS = {
    "uv": "setting up ",
    "torch": "torch==",
    "packages": "requirements/cpu.lock",
    "imports": "+ steersman-client==",
    "engine": "(MainProcess ",
}
"""How the line begins that tells of each step."""
QUESTION = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 8}
SECONDS = 1800


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = []
    for _ in range(parser.parse_args().rounds):
        rounds.append(measured())
        print(rounds[-1], file=sys.stderr)
    medians = {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
    report.write("first_answer", {"medians": medians, "rounds": rounds})


def measured() -> dict[str, float]:
    """One round: seconds of each part, in all, and without downloads."""
    used = _processor_seconds()
    with tempfile.TemporaryDirectory() as place:
        clone, home = Path(place) / "clone", Path(place) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        environment = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
        port = free_port()
        server = subprocess.Popen(
            ["make", "serve", f"PORT={port}", "QUIET="],
            cwd=clone,
            env=environment | {"HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            parts = _parts(server, f"http://127.0.0.1:{port}")
        finally:
            os.killpg(server.pid, 15)
            server.wait()
        return {**parts, "processor": round(_processor_seconds() - used, 1)}


def _processor_seconds() -> float:
    """Of all processes that have ended, as far as they were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parts(server: subprocess.Popen[str], url: str) -> dict[str, float]:
    started = time.monotonic()
    begins: dict[str, float] = {}
    downloads = 0.0
    for line in _lines_until_answered(server, url):
        now = time.monotonic() - started
        print(f"{now:6.1f} {line}", file=sys.stderr)
        for step, beginning in STEPS.items():
            if line.startswith(beginning):
                begins.setdefault(step, now)
        if found := PREPARED.search(line):
            minutes, number, unit = found.groups()
            seconds = float(number) / (1000 if unit == "ms" else 1)
            downloads += 60 * float(minutes or 0) + seconds
    total = time.monotonic() - started
    ends = [*list(begins.values())[1:], total]
    parts = {step: end - begin for (step, begin), end in zip(begins.items(), ends, strict=True)}
    return {
        **{name: round(seconds, 1) for name, seconds in parts.items()},
        "downloads": round(downloads, 1),
        "all but downloads": round(total - downloads, 1),
        "total": round(total, 1),
    }


def _lines_until_answered(server: subprocess.Popen[str], url: str) -> Iterator[str]:
    """Lines of the server's output, until it has answered a question.

    Raises:
        RuntimeError: It has ended.
        TimeoutError: It took too long.

    """
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.put(line.strip())

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            yield lines.get(timeout=0.1)
        except queue.Empty:
            if server.poll() is not None:
                raise RuntimeError(f"make serve ended with {server.returncode}") from None
            if _answered(url):
                return
    raise TimeoutError(f"no answer in {SECONDS} s")


def _answered(url: str) -> bool:
    try:
        answer = httpx.post(f"{url}/v1/chat/completions", json=QUESTION, timeout=60)
    except httpx.ConnectError:
        return False
    return answer.status_code == httpx.codes.OK


if __name__ == "__main__":
    main()
