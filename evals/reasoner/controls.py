"""Makes the vectors and the edit that ship with the reasoner: `python -m evals.reasoner.controls`.

Every step is a command that anybody can run on a model of their own. All of them use problems of
the training split, so that evaluations on the held-out ones are a fair test. The work directory
keeps responses and reports, and an interrupted run goes on from there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata

MODEL = "reasoner"
CONTROL = Path(__file__).parents[2] / "server" / "steersman" / "models" / MODEL / "control"
EVIDENCE = Path(__file__).parents[1] / "evidence" / "vectors"
LAST_LAYER = 3

DRAWN = "[{set: reasoner, each: 40, split: train, seed: 1000}]"
"""What directions are made from: 800 problems."""
TRIED = "[{set: reasoner, each: 50, split: train, seed: 2000}]"
"""What strengths are calibrated on: 1,000 problems."""
SAMPLING = ("--max-tokens", "448", "--samples", "4")
SWEEP = ("--max-tokens", "448", "--concurrency", "128", "--max-num-seqs", "128")
THRESHOLDS = ("--thresholds", "percentiles")


def run(*arguments: str | Path, group: str = "directions") -> None:
    """Run a command of `steersman directions`, or of another group."""
    command = [sys.executable, "-m", "steersman", group, *map(str, arguments)]
    print(" ".join(command[2:]), flush=True)
    subprocess.run(command, check=True)


def directions(work: Path, name: str, *options: str) -> Path:
    """A direction of segments at every layer. All methods use the same responses."""
    out = work / f"{name}.safetensors"
    run(
        *("extract", MODEL, "--method", "segments", "--within-problems", *options, *SAMPLING),
        *("--problems", work / "drawn.yaml", "--samples-file", work / "responses.jsonl"),
        *("--out", out),
    )
    return out


def calibrate(work: Path, name: str, vector: Path, strengths: str, tolerance: str) -> None:
    """A vector with its setting, into the package."""
    run(
        *("calibrate", MODEL, "--vector", vector, "--problems", work / "tried.yaml", *SWEEP),
        *("--layers", str(LAST_LAYER), f"--strengths={strengths}", "--tolerance", tolerance),
        *("--directory", work / f"sweep-{name}", "--plot", work / f"sweep-{name}.png"),
        *("--out", CONTROL / "vectors" / f"{name}.safetensors"),
    )


def edit(work: Path, name: str, heads: int, weight: float) -> None:
    """The edit of ThinkEdit, into the package."""
    run(
        *("extract", MODEL, "--method", "thinkedit", *THRESHOLDS, *SAMPLING),
        *("--problems", work / "drawn.yaml", "--samples-file", work / "responses.jsonl"),
        *("--out", work / "length.safetensors"),
    )
    vector = work / "length.attn.safetensors"
    run(
        *("heads", MODEL, "--vector", vector, "--samples-file", work / "responses.jsonl"),
        *(*THRESHOLDS, "--count", str(heads), "--out", work / "heads.json"),
        *("--plot", work / "heads.png"),
    )
    run(
        *("edit", MODEL, "--vector", vector, "--heads", work / "heads.json"),
        *("--weight", str(weight), "--out", CONTROL / "edits" / f"{name}.safetensors"),
    )


def random_direction(like: Path) -> None:
    """A vector of random directions as long as another's, for evaluations to compare with."""
    norms = file.read(like.read_bytes()).norms
    generator = np.random.default_rng(0)
    layers = {}
    for layer, norm in norms.items():
        values = generator.normal(size=192)
        layers[layer] = (values * norm / np.linalg.norm(values)).astype(np.float32)
    metadata = VectorMetadata(site="layer", method="random", at="boundary", phase="thinking")
    EVIDENCE.mkdir(exist_ok=True)
    (EVIDENCE / "random.safetensors").write_bytes(file.write(Vector(layers, metadata)))


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("evaluations/controls"))
    work = parser.parse_args().work
    for directory in (work, CONTROL / "vectors", CONTROL / "edits"):
        directory.mkdir(parents=True, exist_ok=True)
    (work / "drawn.yaml").write_text(DRAWN)
    (work / "tried.yaml").write_text(TRIED)
    closing = directions(work, "closing", "--closing-only")
    onward = directions(work, "onward")
    random_direction(closing)
    run(
        *("extract", MODEL, "--method", "efficiency", *SAMPLING),
        *("--problems", work / "drawn.yaml", "--samples-file", work / "responses.jsonl"),
        *("--out", EVIDENCE / "efficiency.safetensors"),
    )
    calibrate(work, "closing", closing, "-0.5,-0.25,0.25,0.5,0.75", "0.05")
    calibrate(work, "onward", onward, "-0.25,0.1,0.25,0.5", "0.05")
    concise = work / "concise.safetensors"
    terms = f"{closing}=1.2", f"{onward}=0.5"  # by the sweep of profiles.yaml
    run("combine", *terms, "--out", concise, group="vectors")
    calibrate(work, "concise", concise, "0.25,0.5,0.75,1,1.25", "0.03")
    edit(work, "steady", heads=2, weight=1.0)


if __name__ == "__main__":
    main()
