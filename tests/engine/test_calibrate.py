"""A vector calibrated on a real server, from the command line."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from steersman.cli import app
from steersman.local import LocalServer
from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata
from tests.engine.host import HIDDEN, REASONER
from tests.http.server import ForkedServer

CLOSING = REASONER / "control" / "vectors" / "closing.safetensors"


def test_a_strong_vector_becomes_its_own_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep is done once; what is asked of it, as often as one likes."""
    monkeypatch.setattr(LocalServer, "steersman", ForkedServer.steersman)
    (tmp_path / "problems.yaml").write_text("[{set: reasoner, each: 2, split: train}]")

    def calibrate(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(
            app,
            [
                *("directions", "calibrate", "reasoner", "--vector", str(CLOSING)),
                *("--problems", str(tmp_path / "problems.yaml"), "--strengths", "1.5,3"),
                *("--layers", "3", "--max-tokens", "200", "--max-num-seqs", "64"),
                *("--out", str(tmp_path / "out.safetensors"), *options),
            ],
        )
        return result.exit_code, " ".join((result.output + result.stderr).split())

    longer = calibrate("--goal", "longer", "--tolerance", "1")
    assert longer[0] == 1
    assert "no setting made thinking longer" in longer[1]
    assert not (tmp_path / "out.safetensors").exists()

    shorter = calibrate("--tolerance", "1", "--plot", str(tmp_path / "sweep.png"))
    assert shorter[0] == 0, shorter[1]
    assert "only 40 problems were asked" in shorter[1]
    metadata = file.read((tmp_path / "out.safetensors").read_bytes()).metadata
    assert metadata.layers == (3,)
    assert metadata.strength in (1.5, 3.0)
    assert metadata.calibration is not None
    assert [point["strength"] for point in metadata.calibration["points"]] == [1.5, 3.0]
    assert all(point["thinking"][2] < 1 for point in metadata.calibration["points"])
    assert (tmp_path / "sweep.png").exists()
    assert (tmp_path / "out" / "report.md").exists()

    # Another vector's sweep is not taken for this one's.
    other = Vector({3: np.ones(HIDDEN, np.float32)}, VectorMetadata(site="layer", method="other"))
    (tmp_path / "other.safetensors").write_bytes(file.write(other))
    mixed = calibrate("--vector", str(tmp_path / "other.safetensors"), "--tolerance", "1")
    assert mixed[0] == 2
    assert "responses of another vector" in mixed[1]
