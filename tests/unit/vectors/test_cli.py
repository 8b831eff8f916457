"""`steersman vectors`: what it shows and converts, and how it refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from steersman.vectors import file, gguf
from steersman.vectors.cli import app

from .made_up import content, vector


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_show(tmp_path: Path) -> None:
    made = vector(
        0.5, description="[b]calm", strength_range=(0.5, 2.0), residual_norms={1: 2**0.5 * 100}
    )
    result = run("show", write(tmp_path / "calm.safetensors", file.write(made)))
    assert result.exit_code == 0
    for text in (made.digest[:16], "by hand", "[b]calm", "0.5 to 2", "1.414", "141.4", "1.0%"):
        assert text in result.output


def test_show_without_calibration(tmp_path: Path) -> None:
    result = run("show", write(tmp_path / "calm.gguf", gguf.write(vector(layers=(1,)))))
    assert result.exit_code == 0
    assert "residual stream" not in result.output


def test_convert_a_control_vector(tmp_path: Path) -> None:
    calm = write(tmp_path / "calm.gguf", gguf.write(vector(layers=(1,), description="old")))
    out = tmp_path / "calm.safetensors"
    result = run(
        *("convert", calm, out, "--model", "tiny", "--strength", "-2", "--phase", "thinking"),
        *("--at", "boundary", "--method", "PCA", "--created-from", "pairs"),
        *("--model-digest", "abc"),
    )
    assert result.exit_code == 0, result.output
    assert str(out) in result.output
    assert file.read(out.read_bytes()) == vector(
        layers=(1,),
        description="old",
        model="tiny",
        model_digest="abc",
        strength=-2.0,
        phase="thinking",
        at="boundary",
        method="PCA",
        created_from="pairs",
    )


def test_convert_to_gguf_and_back(tmp_path: Path) -> None:
    data = content(layers=(1,), description="kept")
    there, back = tmp_path / "calm.gguf", tmp_path / "back.safetensors"
    assert run("convert", write(tmp_path / "a.safetensors", data), there).exit_code == 0
    assert run("convert", there, back).exit_code == 0
    assert back.read_bytes() == data


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "bad"), "bad: not a safetensors file"),
        (("convert", "bad", "x.gguf"), "bad: not a safetensors file"),
        (("convert", "good", "x.pt"), "x.pt: the suffix must be .safetensors or .gguf"),
        (("convert", "good", "x.gguf"), "llama.cpp cannot steer layer 0"),
        (("convert", "good", "none/x.safetensors"), "none/x.safetensors: No such file"),
        (("convert", "good", "x.safetensors", "--method", ""), "metadata.method: "),
        (("convert", "good", "x.safetensors", "--strength", "nan"), "metadata.strength: "),
        (("combine", "good", "--out", "x.gguf"), "good: must be FILE=FACTOR"),
        (("combine", "good=much", "--out", "x.gguf"), "good=much: must be FILE=FACTOR"),
        (("combine", "good=inf", "--out", "x.safetensors"), "layer 0 has a NaN or infinite"),
        (("combine", "none=1", "--out", "x.safetensors"), "none: No such file"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bad", b"bad")
    write(tmp_path / "good", content())
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("steersman: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "good"]


def test_combine(tmp_path: Path) -> None:
    one = write(tmp_path / "one.safetensors", content(1.0))
    other = write(tmp_path / "other=2.gguf", gguf.write(vector(3.0, layers=(1,))))
    out = tmp_path / "sum.safetensors"

    result = run("combine", f"{one}=0.5", f"{other}=-1", "--out", out)

    assert result.exit_code == 0, result.output
    made = file.read(out.read_bytes())
    assert {layer: values[0] for layer, values in made.layers.items()} == {0: 0.5, 1: -2.5}
