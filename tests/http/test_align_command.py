"""`steersman align` against the real server."""

import subprocess
import sys
from pathlib import Path

from tests.http.server import API_KEY, Server


def test_it_draws_chains_and_writes_the_answer_alone(reasoner: Server, tmp_path: Path) -> None:
    picture = tmp_path / "chains.png"
    reward = ["--reward", "verify", "--data", '{"reference": "63"}', "--beta", "0.5"]
    chains = ["--steps", "3", "--chains", "2", "--seed", "7", "--max-tokens", "300"]
    where = ["--url", reasoner.url, "--api-key", API_KEY, "--picture", str(picture)]
    command = [sys.executable, "-m", "steersman", "align", "8*7-4+11=?", *reward, *chains, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "step" not in done.stdout
    assert done.stderr.count("step") >= 6
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_refusal_is_one_line_with_its_field(reasoner: Server) -> None:
    where = ["--url", reasoner.url, "--api-key", API_KEY]
    command = [sys.executable, "-m", "steersman", "align", "1+1=?", "--reward", "unheard", *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "control.search.target.reward[0].name" in done.stderr
    assert "Traceback" not in done.stderr
