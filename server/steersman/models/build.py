"""Making the directory of a built-in model: fetch, then convert in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from steersman.models.catalog import Fetched
from steersman.models.error import ModelError
from steersman.models.fetch import fetch
from steersman.models.progress import Progress

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}


def build(model: Fetched, work: Path, target: Path, progress: Progress) -> None:
    """Fill `target` with the files of a model, using `work` for intermediate ones.

    Raises:
        ModelError: the model cannot be fetched or converted.
    """
    file = fetch(model.source, work, progress)
    progress.step("converting to bfloat16")
    convert_apart(file, target)
    set_generation(target, model.generation)


def convert_apart(source: Path, target: Path) -> None:
    """Run the conversion in a process of its own.

    Raises:
        ModelError: it failed; the message has the last line that it printed.
    """
    command = [sys.executable, "-m", "steersman.models.convert", str(source), str(target)]
    converted = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | _QUIET,
        check=False,
    )
    if converted.returncode:
        printed = converted.stdout.strip().splitlines()
        reason = printed[-1] if printed else f"it ended with status {converted.returncode}"
        raise ModelError(f"cannot convert {source.name}: {reason}")


def set_generation(directory: Path, settings: Mapping[str, bool | float]) -> None:
    """Put settings into the `generation_config.json` of a model directory, beside its tokens."""
    file = directory / "generation_config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, **settings}, indent=2, sort_keys=True) + "\n")
