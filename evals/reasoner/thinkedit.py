"""Comparison of heads, sites and weights for ThinkEdit on the reasoner.

    python -m evals.reasoner.thinkedit

Tries the edit of the paper (the heads that write most against the direction of length after
attention, that direction taken away) with more and fewer heads and other weights; with the
direction after the whole layer; and on the heads that matter least, which should do nothing. On
problems of the training split. What came of it is in `results/thinkedit.json`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from evals.reasoner.controls import DRAWN, MODEL, SAMPLING, THRESHOLDS, run
from steersman.vectors import file
from steersman.vectors.vector import Vector

RESULTS = Path(__file__).with_name("results")
COUNTS = (1, 2, 3, 4, 6, 9, 12)
STRENGTHS = (0.5, 1.0, 2.0)
"""Multiples of the edit's weight, which is 1: the w of the paper."""


def heads_of(work: Path, vector: Path, name: str) -> dict[str, Any]:
    """The contribution of every head against a direction."""
    out = work / f"heads-{name}.json"
    run(
        *("heads", MODEL, "--vector", vector, "--samples-file", work / "responses.jsonl"),
        *(*THRESHOLDS, "--count", "1", "--out", out),
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def edit(work: Path, name: str, vector: Path, heads: dict[str, Any], chosen: list[Any]) -> None:
    """An edit of chosen heads, each (layer, head)."""
    by_layer: dict[str, list[int]] = {}
    for layer, head in sorted(chosen):
        by_layer.setdefault(layer, []).append(head)
    path = work / f"chosen-{name}.json"
    path.write_text(json.dumps({**heads, "chosen": by_layer}))
    run(
        *("edit", MODEL, "--vector", vector, "--heads", path, "--weight", "1"),
        *("--out", work / "edits" / f"{name}.safetensors"),
    )


def make(work: Path) -> list[str]:
    """All edits; their names."""
    (work / "drawn.yaml").write_text(DRAWN)
    run(
        *("extract", MODEL, "--method", "thinkedit", *THRESHOLDS, *SAMPLING),
        *("--problems", work / "drawn.yaml", "--samples-file", work / "responses.jsonl"),
        *("--out", work / "length.safetensors"),
    )
    after_layer = file.read((work / "length.safetensors").read_bytes())
    metadata = after_layer.metadata.model_copy(update={"site": "attn"})
    moved = Vector(after_layer.layers, metadata)
    (work / "layer.safetensors").write_bytes(file.write(moved))
    names = []
    for site, path in (("attn", "length.attn.safetensors"), ("layer", "layer.safetensors")):
        vector = work / path
        heads = heads_of(work, vector, site)
        scores = {
            (layer, head): score
            for layer, row in heads["contributions"].items()
            for head, score in enumerate(row)
        }
        ranked = sorted(scores, key=lambda one: -scores[one])
        for count in COUNTS:
            edit(work, f"{site}-{count}", vector, heads, ranked[:count])
            names.append(f"{site}-{count}")
        if site == "attn":
            edit(work, "least-2", vector, heads, ranked[-2:])
            names.append("least-2")
    return names


def main() -> None:
    """Make the edits, and try them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("evaluations/thinkedit"))
    work = parser.parse_args().work
    (work / "edits").mkdir(parents=True, exist_ok=True)
    names = make(work)
    strengths = {name: STRENGTHS if name.startswith("attn") else (1.0,) for name in names}
    controls: dict[str, Any] = {"single": None}
    for name in names:
        for strength in strengths[name]:
            controls[f"{name}, {strength:g}"] = {"thinkedit": {"edit": name, "strength": strength}}
    settings = {
        "name": "reasoner-thinkedit",
        "model": MODEL,
        "server": [
            *("--max-num-seqs", "128", "--edits", str(work / "edits")),
            *("--edit-rows", str(len(names) + 1)),  # the model ships one
        ],
        "problems": [{"set": MODEL, "each": 20, "split": "train", "seed": 7000}],
        "controls": controls,
        "baseline": "single",
        "temperature": 1.0,
        "max_tokens": 448,
        "concurrency": 128,
    }
    (work / "run.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    command = ["eval", str(work / "run.yaml"), "--out", str(work / "tried")]
    subprocess.run([sys.executable, "-m", "steersman", *command], check=True)
    shutil.copy(work / "tried" / "report.json", RESULTS / "thinkedit.json")


if __name__ == "__main__":
    main()
